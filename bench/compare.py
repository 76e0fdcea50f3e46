#!/usr/bin/env python3
"""The gateway beside the floor: interleaved rounds, medians, ratios.

    bench/compare.py postgres://postgres@127.0.0.1:5432/scratch [--rounds 5] [MODE …]

The database must be one made for it, with the gateway's schema in it
(`notify-gateway schema | psql …`). Everything runs on this machine, one server
at a time. A ratio within one run says something; a number alone says nothing.
"""

import argparse
import json
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECRET = "a secret for measurements, of no worth to anybody"

MODES = {
    # 50,000 rows for 1,000 streams of as many users, as fast as Postgres takes them.
    "saturation": ["saturation", "-n", "1000", "--rows", "50000"],
    # One transaction with a row for each of 5,000.
    "broadcast": ["broadcast", "-n", "5000", "--rounds", "3"],
    # One user with 1,000 streams, transactions of 50 rows.
    "tabs": ["tabs", "-n", "1000", "--rate", "200", "--duration", "5s", "--rows-per-transaction", "50"],
    # 1,000 streams, 200 rows a second.
    "steady": ["steady", "-n", "1000", "--rate", "200", "--duration", "20s"],
}


def servers(database):
    gateway = ROOT / "target/release/notify-gateway"
    floor = ROOT / "bench/target/release/floor"
    yield "floor", [floor, "127.0.0.1:{port}", database, "notifications"]
    yield "gateway", [
        gateway, "serve", "--database-url", database, "--jwt-secret", SECRET,
        "--bind", "127.0.0.1:{port}", "--admin-bind", "127.0.0.1:0",
        "--connect-rate", "0", "--user-connect-rate", "0", "--max-streams-per-user", "100000",
    ]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def measure(command, mode, database):
    port = free_port()
    command = [str(part).format(port=port) for part in command]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        time.sleep(1)  # the first probe has to come back
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            subprocess.run(
                [ROOT / "target/release/notify-loadtest", *MODES[mode],
                 "--url", f"http://127.0.0.1:{port}/api/notifications/stream",
                 "--jwt-secret", SECRET, "--database-url", database,
                 "--server-pid", str(server.pid), "--json", report.name],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            )
            return json.load(open(report.name))["results"][0]
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database")
    parser.add_argument("modes", nargs="*", default=list(MODES))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for mode in arguments.modes:
        rounds = {}
        for _ in range(arguments.rounds):
            for name, command in servers(arguments.database):
                rounds.setdefault(name, []).append(measure(command, mode, arguments.database))
        print(f"\n{mode}, medians of {arguments.rounds} rounds")
        rows = {
            "CPU s / 100k deliveries": lambda r: r["server"]["cpu_s_per_100k"],
            "commit → receipt p50, ms": lambda r: r["latencies"]["acknowledged"]["p50_ms"],
            "commit → receipt p99, ms": lambda r: r["latencies"]["acknowledged"]["p99_ms"],
            "memory a stream, KiB": lambda r: r["server"]["kib_per_stream"],
        }
        for what, pick in rows.items():
            medians = {
                name: statistics.median(pick(result) for result in results)
                for name, results in rounds.items()
            }
            floor = medians["floor"] or float("nan")
            shown = "   ".join(
                f"{name} {median:.3f} ({median / floor:.2f} ×)" for name, median in medians.items()
            )
            print(f"  {what:26} {shown}")
        for name, results in rounds.items():
            lost = sum(result["findings"]["lost"] for result in results)
            doubled = sum(result["findings"]["doubled"] for result in results)
            print(f"  {name}: lost {lost}, doubled {doubled}")


if __name__ == "__main__":
    main()
