"""The page's own tests, in Jest, against the real gateway."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from scribe_stack import HERE, Scribe


@contextmanager
def control_of(scribe: Scribe) -> Iterator[str]:
    """An address by which a test in another process stops and starts the gateway."""
    actions = {"/gateway/stop": scribe.gateway.stop, "/gateway/start": scribe.gateway.start}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            actions[self.path]()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_jest(scribe: Scribe) -> None:
    with control_of(scribe) as control:
        environment = {
            **os.environ,
            "CI_REQUIRE_BELL": "1",
            "BELL_URL": f"http://127.0.0.1:{scribe.gateway.port}/api/notifications/stream",
            "BELL_SECRET": scribe.secret,
            "BELL_AUDIENCE": "scribe",
            "BELL_DATABASE_URL": scribe.postgres.url("scribe"),
            "BELL_CONTROL": control,
        }
        command = ["npm", "test", "--", "--ci"]
        done = subprocess.run(
            command,
            cwd=HERE / "frontend",
            env=environment,
            timeout=300,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    assert done.returncode == 0, done.stdout
