"""The gateway beside its peers: interleaved rounds, medians, ratios to the floor.

    make bench-peers                                  # all of it
    make bench-peers PEERS="--quick"                  # some minutes
    make bench-peers PEERS="--modes tabs,steady --servers floor,gateway --rounds 5"

Everything runs on this machine, one server at a time, beside a Postgres of its
own (fsync on). A ratio within one run says something; a number alone says
nothing. Each measurement is a file in bench/target/peers; with --keep, those of
earlier runs stay in the table, so that it can be made in several sittings.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from . import table
from .modes import AIMS, MODES
from .servers import BENCH, ROOT, SERVERS, missing, peer, raise_file_limit, running, versions

LOADTEST = ROOT / "target/release/notify-loadtest"
RAW = BENCH / "target/peers"


def main():
    options = parse()
    raise_file_limit()
    if not options.keep:
        shutil.rmtree(RAW, ignore_errors=True)
    RAW.mkdir(parents=True, exist_ok=True)
    there = {name for name in options.servers if is_there(name)}
    guard = subprocess.Popen(
        [peer("throwaway_postgres")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        postgres = json.loads(guard.stdout.readline() or sys.exit("there is no Postgres"))
        (RAW / "postgres").write_text(postgres["version"])
        for mode in options.modes:
            servers = [name for name in SERVERS if name in there and name in mode.servers]
            for number in range(options.rounds):
                for name in servers:
                    attempt(mode, name, number, postgres, options.quick)
    finally:
        guard.stdin.close()
        guard.wait()
        report(options.out)


def parse():
    parser = argparse.ArgumentParser(
        prog="peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    by_name = {mode.name: mode for mode in MODES}

    def listed(known):
        def parse_list(text):
            names = text.split(",")
            if unknown := set(names) - set(known):
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(known)}")
            return names

        return parse_list

    parser.add_argument("--quick", action="store_true", help="one short round of the main modes")
    parser.add_argument("--rounds", type=int, help="of each mode (default 3, quick 1)")
    parser.add_argument("--modes", type=listed(by_name), help=", ".join(by_name))
    parser.add_argument(
        "--servers", type=listed(SERVERS), default=list(SERVERS), help=", ".join(SERVERS)
    )
    parser.add_argument("--keep", action="store_true", help="add to what earlier runs measured")
    parser.add_argument(
        "--out", type=pathlib.Path, default=BENCH / "target/peers.md", help="where the table goes"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    wanted = options.modes or [m.name for m in MODES if m.quick or not options.quick]
    options.modes = [by_name[name] for name in wanted]
    return options


def is_there(name):
    if why := missing(name):
        print(f"\n*** {name} is SKIPPED: {why} ***\n", flush=True)
        return False
    return True


def attempt(mode, name, number, postgres, quick):
    try:
        result = measure(mode, name, postgres, quick)
    except (RuntimeError, OSError) as error:
        print(f"\n*** {mode.name}, {name}: NOT measured: {error} ***\n", flush=True)
        return
    at = RAW / mode.name / name
    at.mkdir(parents=True, exist_ok=True)
    # After those that are kept.
    (at / f"{len(list(at.iterdir())):03}.json").write_text(json.dumps(result))
    values = table.medians(mode, [result])
    shown = ", ".join(f"{f.title} {table.number(values[f.key])}" for f in mode.figures)
    print(f"{mode.name} {number + 1} {name}: {shown}", flush=True)


def measure(mode, name, postgres, quick):
    # Every server finds the table empty.
    subprocess.run(
        [postgres["psql"], "--quiet", postgres["url"], "-c", "TRUNCATE notifications", "-c", "CHECKPOINT"],
        check=True,
    )
    server = SERVERS[name]
    arguments = mode.quick if quick and mode.quick else mode.arguments
    with (
        running(name, postgres["url"], mode.heartbeat_s, mode.replicas) as processes,
        tempfile.NamedTemporaryFile(suffix=".json") as report,
    ):
        helpers = processes.helpers_cpu_s()
        command = [
            LOADTEST, *arguments, *server.client, "--no-limits", "--quiet",
            *(part for url in processes.urls for part in ("--url", url)),
            *(part for pid in processes.pids() for part in ("--server-pid", str(pid))),
            "--database-url", postgres["url"], "--postgres-pid", str(postgres["pid"]),
            "--json", report.name,
        ]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        text = pathlib.Path(report.name).read_text()
        if not text:
            raise RuntimeError(done.stderr.decode().strip())
        whole = json.loads(text)
        result = {**whole["results"][0], "machine": whole["machine"], "arguments": arguments}
        if len(server.commands) > 1 and result["deliveries"]:
            # The helpers work for rows only, so all of theirs is the rows'.
            front = result["server"]["cpu_s"] - (processes.helpers_cpu_s() - helpers)
            result["front_cpu_s_per_100k"] = front / result["deliveries"] * 1e5
        return result


def report(out):
    """All that is in RAW, as Markdown."""
    results = {}
    for mode in MODES:
        for name in SERVERS:
            if files := sorted((RAW / mode.name / name).glob("*.json")):
                results.setdefault(mode.name, {})[name] = [json.loads(f.read_text()) for f in files]
    if not results:
        return
    names = [name for name in SERVERS if any(name in by_server for by_server in results.values())]
    first = next(iter(next(iter(results.values())).values()))[0]
    rounds = {len(list_) for by_server in results.values() for list_ in by_server.values()}
    span = "–".join(str(count) for count in sorted({min(rounds), max(rounds)}))
    about = [
        f"machine: {first['machine']}; PostgreSQL {(RAW / 'postgres').read_text()}, fsync on, loopback",
        f"medians of {span} interleaved round(s); in parentheses the ratio to the floor",
        *versions(names),
        *(
            f"{mode}: `notify-loadtest {' '.join(next(iter(by_server.values()))[0]['arguments'])}`"
            for mode, by_server in results.items()
        ),
    ]
    text = table.render(MODES, AIMS, results, about)
    out.write_text(text)
    print(f"\n{text}\n{out}")


if __name__ == "__main__":
    main()
