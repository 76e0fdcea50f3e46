from __future__ import annotations

from collections.abc import Iterator

import pytest

from person import Person, new_person
from scribe_stack import Scribe, running


@pytest.fixture(scope="session")
def scribe() -> Iterator[Scribe]:
    settings = {"GATEWAY_HEARTBEAT": "2s", "GATEWAY_DRAIN": "1s", "JWT_LEEWAY": "0s"}
    with running(gateway_settings=settings) as scribe:
        yield scribe


@pytest.fixture
def ada(scribe: Scribe) -> Iterator[Person]:
    person = new_person(scribe, "Ada")
    yield person
    person.api.close()


@pytest.fixture
def grace(scribe: Scribe) -> Iterator[Person]:
    person = new_person(scribe, "Grace")
    yield person
    person.api.close()
