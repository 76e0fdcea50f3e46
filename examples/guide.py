"""A page for readers as a script: its fenced blocks, in their order, do what a reader does.

What a block is for stands in its info string, of which GitHub shows nothing:

- `title="FILE"`: the file is written;
- `diff`: it is applied;
- `sh`: bash runs it where the page begins, and variables stay for the next one;
- `sh terminal="NAME"`: bash runs it in a new terminal, which knows no variable, and it is left running;
- `text`: lines that the block before has said;
- `skip="why"`: nothing is done.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stack import Program


@dataclass
class Block:
    heading: str
    language: str
    attributes: dict[str, str]
    text: str


def blocks(markdown: str) -> Iterator[Block]:
    heading = ""
    # A heading, or a block with its info string.
    pattern = re.compile(r"^#+ (.*?)$|^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    for found in pattern.finditer(markdown):
        title, language, info, text = found.groups()
        if title is not None:
            heading = title
        else:
            yield Block(heading, language, dict(re.findall(r'(\w+)="(.*?)"', info)), text)


class Guide:
    """A reader who follows a page in `directory`, on whose machine examples are something else."""

    def __init__(self, page: Path, directory: Path, replacements: Mapping[str, str], environment: Mapping[str, str]):
        self._blocks = [block for block in blocks(page.read_text()) if "skip" not in block.attributes]
        self.directory = directory
        self._replacements = replacements
        self._environment = dict(environment)
        self._kept = directory.parent / f"{directory.name}.kept"
        self.terminals: dict[str, Program] = {}
        self.said = ""

    def undo_changes(self) -> None:
        """Takes back what the page writes into files: they are as before the page was followed."""
        for block in self._blocks:
            if block.language == "diff":
                self._apply(block, "--reverse")
            elif title := block.attributes.get("title"):
                file = self.directory / title
                assert file.read_text() == block.text, f"the page shows another {title}"
                file.unlink()

    def follow(self, heading: str, is_ready: Mapping[str, Callable[[], object]] | None = None) -> None:
        """Does what stands under one heading. `is_ready` says when a terminal that stays open has started."""
        found = [block for block in self._blocks if block.heading == heading]
        assert found, f"the page has nothing to do under {heading!r}"
        for block in found:
            terminal = block.attributes.get("terminal")
            if title := block.attributes.get("title"):
                (self.directory / title).write_text(block.text)
            elif block.language == "diff":
                self._apply(block)
            elif terminal is not None:
                assert is_ready is not None
                self._open(terminal, self._own(block.text), is_ready[terminal])
            elif block.language == "sh":
                self.said = self.run(self._own(block.text))
            else:
                assert block.language == "text", f"what is to be done with {block.language}?"
                for line in block.text.splitlines():
                    assert line in self.said, f"nobody says {line!r}, but:\n{self.said}"

    def run(self, commands: str) -> str:
        """Runs commands where the reader is, and returns what they say."""
        script = f"""set -a; [ ! -e {self._kept} ] || . {self._kept}; set +a; set -e -o pipefail
{commands}
umask 077; declare -px > {self._kept}"""
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"
        return done.stdout

    def close(self) -> None:
        for terminal in self.terminals.values():
            terminal.stop()

    def _own(self, text: str) -> str:
        for example, own in self._replacements.items():
            text = text.replace(example, own)
        return text

    def _apply(self, block: Block, *flags: str) -> None:
        done = subprocess.run(
            ["git", "apply", *flags, "-"],
            cwd=self.directory,
            input=block.text,
            text=True,
            capture_output=True,
            # Not the repository that may be around the directory.
            env={**self._environment, "GIT_CEILING_DIRECTORIES": str(self.directory.parent)},
        )
        assert done.returncode == 0, f"{done.stderr}\n{block.text}"

    def _open(self, name: str, commands: str, is_ready: Callable[[], object]) -> None:
        terminal = Program(
            f"terminal {name}",
            ["bash", "-c", f"set -e\n{commands}"],
            directory=self.directory.parent,
            environment=self._environment,
            working_directory=self.directory,
            is_ready=is_ready,
        )
        self.terminals[name] = terminal
        terminal.start()
