"""The user story, over the whole stack: I keep the page open, and what the application writes for me
is there at once."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import jwt
import pytest

from scribe_stack import Scribe
from stack import eventually

STREAM = "/api/notifications/stream"


def test_the_endpoint_opens_a_stream_with_its_headers(scribe: Scribe, ada) -> None:
    with ada.stream() as stream:
        connected = stream.next()
        headers = stream.headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert connected.name == "connected"
    assert connected.data["user_id"] == ada.id
    expires = jwt.decode(ada.token, options={"verify_signature": False})["exp"]
    assert datetime.fromisoformat(connected.data["expires_at"]) == datetime.fromtimestamp(expires, UTC)


def test_the_gateway_sends_these_headers_itself(scribe: Scribe, ada) -> None:
    # nginx takes the first for itself, and writes the second for each connection of its own.
    url = f"http://127.0.0.1:{scribe.gateway.port}{STREAM}"
    with httpx.stream("GET", url, headers={"Authorization": f"Bearer {ada.token}"}) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["connection"] == "keep-alive"


@pytest.mark.parametrize(
    "credentials",
    [None, "Bearer nonsense", "of another key", "of another audience", "expired"],
)
def test_it_asks_for_a_valid_access_token(scribe: Scribe, ada, credentials: str | None) -> None:
    now = int(datetime.now(UTC).timestamp())
    claims = {"sub": ada.id, "aud": "scribe", "iat": now, "exp": now + 60}
    made = {
        "of another key": jwt.encode(claims, "k" * 64),
        # As the application's own refresh token is.
        "of another audience": jwt.encode({**claims, "aud": "scribe:refresh"}, scribe.secret),
        "expired": jwt.encode({**claims, "exp": now - 60}, scribe.secret),
    }
    header = f"Bearer {made[credentials]}" if credentials in made else credentials
    headers = {"Authorization": header} if header else {}
    answer = httpx.get(scribe.url + STREAM, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


def test_heartbeats_come(ada) -> None:
    with ada.stream() as stream:
        every = stream.next().data["heartbeat_seconds"]
        began = datetime.now(UTC)
        beats = [stream.next() for _ in range(2)]
    assert [beat.name for beat in beats] == ["heartbeat"] * 2
    assert beats[0].data["connections"] == 1
    assert (datetime.now(UTC) - began).total_seconds() < 3 * every


def test_what_the_application_writes_reaches_all_streams_of_its_user(ada) -> None:
    with ada.stream() as first, ada.stream() as second:
        for stream in (first, second):
            stream.next_of("connected")
        ada.transcribe("interview.mp3")
        arrived = [stream.next_of("notification").data for stream in (first, second)]
    assert arrived[0] == arrived[1]
    # As the application's own list has it.
    listed = ada.api.get("/api/notifications").json()["notifications"]
    times = [datetime.fromisoformat(row.pop("created_at")) for row in (arrived[0], listed[0])]
    assert arrived[0] == listed[0] and times[0] == times[1]
    assert arrived[0]["title"] == "Transcription ready" and arrived[0]["message"] == "interview.mp3"


def test_what_is_rolled_back_never_arrives(scribe: Scribe, ada) -> None:
    insert = f"""INSERT INTO notifications (id, user_id, kind, title, body)
                 VALUES (gen_random_uuid(), '{ada.id}', 'info', '%s', '')"""
    with ada.stream() as stream:
        stream.next_of("connected")
        scribe.sql(f"BEGIN; {insert % 'undone'}; ROLLBACK; {insert % 'done'}")
        assert stream.next_of("notification").data["title"] == "done"


def test_each_user_gets_only_their_own(ada, grace) -> None:
    with ada.stream() as of_ada, grace.stream() as of_grace:
        for stream in (of_ada, of_grace):
            stream.next_of("connected")
        ada.comment(f"look at this, @{grace.name}")
        grace.comment(f"I did, @{ada.name} and @nobody")
        assert of_grace.next_of("notification").data["title"] == f"{ada.name} mentioned you"
        assert of_ada.next_of("notification").data["title"] == f"{grace.name} mentioned you"
        # Nothing else was on its way.
        ada.comment(f"@{ada.name} @{grace.name} again")
        for stream in (of_ada, of_grace):
            assert "again" in stream.next_of("notification").data["message"]


def test_reading_and_deleting_are_told_as_well(ada) -> None:
    with ada.stream() as stream:
        stream.next_of("connected")
        ada.transcribe("one.mp3")
        row = stream.next_of("notification").data
        ada.api.post("/api/notifications/read", json={"ids": [row["id"]]}).raise_for_status()
        assert stream.next_of("updated").data == {**row, "status": "read"}
        ada.api.delete(f"/api/notifications/{row['id']}").raise_for_status()
        assert stream.next_of("deleted").data == {"id": row["id"]}


def test_a_reconnect_with_the_last_id_brings_what_was_missed(ada) -> None:
    with ada.stream() as stream:
        last = stream.next_of("connected").id
    assert last is not None
    ada.transcribe("missed.mp3")
    eventually("the notification", lambda: ada.unread() == 1)
    with ada.stream(last_event_id=last) as stream:
        assert stream.next_of("notification").data["message"] == "missed.mp3"


def test_a_disconnect_is_cleaned_up(scribe: Scribe, ada) -> None:
    def streams() -> float:
        return scribe.gateway.metrics()["sse_connections_total"]

    eventually("the streams of other tests gone", lambda: streams() == 0)
    with ada.stream() as stream:
        stream.next_of("connected")
        assert streams() == 1
    eventually("the stream gone", lambda: streams() == 0)
    metrics = scribe.gateway.metrics()
    assert metrics["sse_connection_duration_seconds_count"] >= 1
    assert metrics['sse_messages_sent_total{event_type="notification"}'] >= 1


def test_the_list_has_each_row_on_one_page(scribe: Scribe, ada) -> None:
    # All of one transaction, and so of one time.
    scribe.sql(
        f"""INSERT INTO notifications (id, user_id, kind, title, body)
            SELECT gen_random_uuid(), '{ada.id}', 'info', number::text, '' FROM generate_series(1, 25) AS number"""
    )
    seen: list[str] = []
    query: dict[str, str] = {"limit": "10"}
    while True:
        page = ada.api.get("/api/notifications", params=query).raise_for_status().json()
        seen += [row["title"] for row in page["notifications"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert sorted(seen, key=int) == [str(number) for number in range(1, 26)]
    assert page["unread_count"] == 25
