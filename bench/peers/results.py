"""What was measured: a file for each measurement, `MODE/SERVER/ROUND.json`.

Each has a stamp of what it is a measurement of. One whose stamp is no longer true is
as good as none, so that a run goes on where one before it was stopped, and a report
never mixes two commits or two lengths.
"""

import hashlib
import json
import os
import pathlib
import shutil


def stamp(sources, server, mode, arguments, place):
    """`sources`: the commit that what is measured was built from; `place`: machine and
    Postgres."""
    about = [repr(server), mode.heartbeat_s, mode.replicas, sorted(
        (name, pathlib.Path(file).read_text()) for name, file in server.files.items()
    )]
    return {
        "sources": sources,
        "arguments": list(arguments),
        "server": hashlib.sha256(repr(about).encode()).hexdigest()[:12],
        "place": place,
    }


class Results:
    def __init__(self, directory):
        self.directory = directory

    def clear(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def get(self, mode, server, number, stamp):
        """The result of a round, none where it lacks or is stale."""
        try:
            found = json.loads(self._file(mode, server, number).read_text())
        except (OSError, ValueError):
            return None
        return found["result"] if found["stamp"] == stamp else None

    def put(self, mode, server, number, stamp, result):
        """Whole or not at all."""
        file = self._file(mode, server, number)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps({"stamp": stamp, "result": result}))
        os.replace(draft, file)

    def rounds(self, mode, server, stamp):
        """Round → result, of all that have the stamp."""
        numbers = sorted(int(file.stem) for file in self._file(mode, server, 0).parent.glob("*.json"))
        found = {number: self.get(mode, server, number, stamp) for number in numbers}
        return {number: result for number, result in found.items() if result is not None}

    def _file(self, mode, server, number):
        return self.directory / mode / server / f"{number:03}.json"
