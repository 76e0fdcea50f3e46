"""Polling, in-process SSE and the gateway beside the same application, measured in interleaved rounds.

    python3 examples/comparison/compare.py                   # all of it, some half an hour
    python3 examples/comparison/compare.py --quick           # one small round, about a minute and a half

Each way has a stack of its own, started afresh in each round: PostgreSQL, Scribe (../fastapi) under
uvicorn with one worker, nginx, and the gateway where it is the gateway's turn. Everything runs on this
machine, so the ratios within one run say something and a number alone says little. NOTIFY_GATEWAY_BIN
names the gateway; build it with `cargo build --release` before.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "fastapi")]

import inserts  # noqa: E402
import report  # noqa: E402
from measure import QUICK, Plan, measure  # noqa: E402
from stack import NotThere, find_program, gateway_binary, postgres_binaries  # noqa: E402

#: Of one program: nginx has two for each stream.
FILES_A_STREAM = 2


def main() -> None:
    options = parse()
    if options.from_json:
        kept = json.loads(options.from_json.read_text())
        about, rounds = kept["about"], kept["rounds"]
        keep(options, about, rounds)
    else:
        try:
            about, rounds = measure_all(options)
        except NotThere as missing:
            sys.exit(str(missing))
    print(f"\n{report.heading(about, len(rounds))}\n\n{report.table(rounds)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--streams", type=int, help="open pages (default 1000, quick 20)")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that all of it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw figures go, after each round")
    parser.add_argument("--keep", action="store_true", help="add to the rounds that the file of --json has")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="where the picture goes")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="where the table replaces what is between the two markers"
    )
    parser.add_argument(
        "--from-json", type=Path, metavar="FILE", help="measure nothing: table and picture of what was kept"
    )
    options = parser.parse_args()
    if options.keep and not options.json:
        parser.error("--keep needs --json")
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.changed = {"streams": options.streams} if options.streams else {}
    return options


def measure_all(options: argparse.Namespace) -> tuple[dict, list[report.Round]]:
    plan = dataclasses.replace(QUICK if options.quick else Plan(), **options.changed)
    raise_file_limit(plan.streams)
    inserts.find_pgbench()
    about = describe(plan)
    rounds = kept_rounds(options.json, about) if options.keep else []
    for _ in range(options.rounds):
        number = len(rounds)
        rounds.append(measure_round(plan, number, options.quick))
        keep(options, about, rounds)
    return about, rounds


def kept_rounds(file: Path, about: dict) -> list[report.Round]:
    """The rounds of an earlier sitting, which had to be on the same machine with the same plan."""
    kept = json.loads(file.read_text())
    for what in ("machine", "versions", "plan"):
        if kept["about"][what] != about[what]:
            sys.exit(f"{file} is of another sitting: its {what} is {kept['about'][what]}, not {about[what]}")
    return kept["rounds"]


def raise_file_limit(streams: int) -> None:
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams * FILES_A_STREAM + 500
    if most != resource.RLIM_INFINITY and most < wanted:
        raise NotThere(f"{wanted:,} open files are needed and {most:,} allowed: ulimit -Hn {wanted}")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def measure_round(plan: Plan, number: int, is_quick: bool) -> report.Round:
    # The ways take turns in being first.
    order = report.WAYS[number % len(report.WAYS) :] + report.WAYS[: number % len(report.WAYS)]
    found = {}
    for way in order:
        found[way] = asyncio.run(measure(way, plan))
        shown = ", ".join(f"{name} {report.number(value)}" for name, value in found[way].items())
        print(f"round {number + 1}, {way}: {shown}", flush=True)
    costs = inserts.measure(plan.streams, *((1, 1) if is_quick else (2, 3)))
    for way, figures in costs.items():
        shown = ", ".join(f"{name} {report.number(value)}" for name, value in figures.items())
        print(f"round {number + 1}, INSERTs, {way}: {shown}", flush=True)
    return {way: found[way] | costs[way] for way in report.WAYS}


def keep(options: argparse.Namespace, about: dict, rounds: list[report.Round]) -> None:
    """Writes what was asked for, after each round: what was measured stays if a later one fails."""
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rounds": rounds}, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(report.svg(rounds, about))
    if options.markdown:
        new = f"{report.heading(about, len(rounds))}\n\n{report.table(rounds)}"
        options.markdown.write_text(report.within(options.markdown.read_text(), new))


def describe(plan: Plan) -> dict:
    """The machine, the versions, the date and the plan."""
    processor = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = {name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "asyncpg", "sse-starlette")}
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        "versions": {
            "notify-gateway": said(gateway_binary(), "--version"),
            "PostgreSQL": said(postgres_binaries() / "postgres", "--version"),
            "nginx": said(find_program("nginx", "apt-get install nginx-light"), "-v").split("/")[-1],
            "Python": platform.python_version(),
            **packages,
        },
        "date": datetime.date.today().isoformat(),
        "plan": dataclasses.asdict(plan),
    }


def said(program: str | Path, argument: str) -> str:
    """The version in what a program says of itself."""
    done = subprocess.run([program, argument], capture_output=True, text=True, check=True)
    words = (done.stdout + done.stderr).split()
    return next((word for word in words if word[0].isdigit()), words[-1])


if __name__ == "__main__":
    main()
