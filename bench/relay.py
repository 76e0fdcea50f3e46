"""Many gateways: each listening to Postgres, or one of them telling the others over NATS.

    make bench-relay                                 # some twenty minutes
    make bench-relay RELAY="--rounds 1 --gateways 1,5"

Interleaved rounds, medians, ratios to one gateway that listens. Everything runs on this machine:
Postgres (fsync on), NATS, the gateways, and for each of them a stream that takes all rows. The
more of them there are, the less is left of two cores for the writers, with a relay too; what
Postgres itself pays is in its own CPU time, a transaction.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from writers import BENCH, RATE, ROOT, Gateways, Postgres, free_ports, percentiles, transactions

NATS = [ROOT / "target/tools/bin/nats-server", pathlib.Path("/usr/sbin/nats-server")]
TICKS = os.sysconf("SC_CLK_TCK")


class Nats:
    def __init__(self):
        binary = next((path for path in NATS if path.exists()), None) or sys.exit("no nats-server")
        self.directory = tempfile.TemporaryDirectory()
        [port] = free_ports(1)
        self.url = f"nats://127.0.0.1:{port}"
        command = [binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", self.directory.name]
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **quietly)
        time.sleep(1)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()


def cpu_of(pids):
    """Seconds of CPU."""
    stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS


def cpu(postgres):
    """Seconds of CPU of all of the server's processes, those that have ended included."""
    leader = postgres.about["pid"]
    total = 0
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(directory.name) == leader:
            total += sum(map(int, stat[11:15]))
        elif int(stat[1]) == leader:
            total += sum(map(int, stat[11:13]))
    return total / TICKS


def measure(postgres, nats, pids, seconds):
    paid = lambda: (cpu(postgres), cpu_of(pids) / len(pids), cpu_of([nats.process.pid]))
    began, before = time.time(), paid()
    rate = transactions(postgres, seconds, "--rate", str(RATE))
    slow = (began, time.time())
    each = [(now - then) / (rate * seconds) * 1e6 for then, now in zip(before, paid())]
    figures = {
        f"Postgres' CPU, µs a transaction at {RATE} a second": each[0],
        "CPU of a gateway with streams, µs a row likewise": each[1],
        "CPU of NATS, µs a row likewise": each[2],
        "8 writers, transactions/s": transactions(postgres, seconds),
    }
    time.sleep(2)
    return figures, {f"{RATE} transactions/s": slow}


def main():
    parser = argparse.ArgumentParser(
        prog="relay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--gateways", default="1,5,10,20")
    parser.add_argument("--form", default="row", help="as of bench-writers: row, auto")
    options = parser.parse_args()
    postgres, nats = Postgres(), Nats()
    counts = [int(count) for count in options.gateways.split(",")]
    ways = [(count, way) for count in counts for way in ("listen", "relay")]
    found = {way: [] for way in ways}
    try:
        for _ in range(options.rounds):
            for count, way in ways:
                postgres.form(options.form)
                relay = nats.url if way == "relay" else None
                gateways = Gateways(postgres, count, options.form, relay)
                try:
                    figures, windows = measure(postgres, nats, gateways.pids, options.seconds)
                finally:
                    latencies = gateways.close()
                found[count, way].append(figures | percentiles(latencies, windows))
                print(count, way, found[count, way][-1], file=sys.stderr, flush=True)
    finally:
        nats.close()
        postgres.close()
    first = found[ways[0]]
    print(f"\nform {options.form}, {options.rounds} rounds; × what one that listens has\n")
    print("| | " + " | ".join(f"{count} {way}" for count, way in ways) + " |")
    print("|---|" + "---:|" * len(ways))
    for name in first[0]:
        base = statistics.median(round[name] for round in first)
        middles = [statistics.median(round[name] for round in found[way]) for way in ways]
        cell = lambda it: f"{it:.4g} ({it / base:.2f})" if base > 1 else f"{it:.4g}"
        print(f"| {name} | " + " | ".join(map(cell, middles)) + " |")


if __name__ == "__main__":
    main()
