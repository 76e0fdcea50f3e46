"""What `make example` runs, as somebody meets it in a terminal."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from scribe_stack import HERE, PASSWORD
from stack import eventually, free_port


def processes_of(directory: str) -> list[Path]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        # It may have ended meanwhile.
        with suppress(OSError):
            if directory in command.read_text(errors="replace"):
                found.append(command)
    return found


def test_it_comes_up_and_ctrl_c_takes_it_all_away(tmp_path: Path) -> None:
    log = tmp_path / "said"
    port = free_port()
    command = [sys.executable, HERE / "scribe_stack.py", "--port", str(port)]
    with log.open("w") as output:
        example = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        eventually("the address", lambda: "Ctrl-C" in log.read_text() or example.poll() is not None, seconds=90)
        said = log.read_text()
        assert example.poll() is None, said
        told = dict(re.findall(r"^(\w+): +([^\s,]+)", said, re.MULTILINE))
        url, email, directory = told["page"], told["users"], told["logs"]
        assert '<div id="root">' in httpx.get(url).text
        login = httpx.post(f"{url}api/auth/login", json={"email": email, "password": PASSWORD})
        assert login.status_code == 200
        stream = httpx.get(f"{url}api/notifications/stream")
        assert stream.headers["www-authenticate"].startswith("Bearer")
    finally:
        example.send_signal(signal.SIGINT)
        code = example.wait(timeout=60)
    assert code == 0 and "removed" in log.read_text(), log.read_text()
    assert not Path(directory).exists()
    eventually("none of its processes left", lambda: not processes_of(directory))
