"""Whether the log stays flat, and whether pruning it makes a writer wait.

    make bench-retention                                  # ten retention periods, some six minutes
    make bench-retention RETENTION="--periods 4"

Four writers make a thousand rows a second in transactions of one row, on a Postgres of its
own. The retention time is half a minute instead of seven days, and autovacuum looks every
three seconds instead of every minute. In the first period nothing is pruned: what writers
wait then is what the later ones are held against.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BENCH = pathlib.Path(__file__).resolve().parent
ROOT = BENCH.parent
USER = "11111111-2222-3333-4444-555555555555"
INSERT = f"INSERT INTO notifications (user_id, title, message) VALUES ('{USER}', 'hello', 'world');\n"


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def main():
    parser = argparse.ArgumentParser(
        prog="retention", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--periods", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=30, help="of one period")
    parser.add_argument("--rate", type=int, default=1000, help="rows a second")
    options = parser.parse_args()
    guard = subprocess.Popen(
        [BENCH / "target/release/throwaway_postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    about = json.loads(guard.stdout.readline() or sys.exit("there is no Postgres"))

    def sql(text):
        command = [about["psql"], "-qAtX", "-v", "ON_ERROR_STOP=1", about["url"], "-c", text]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    sql("ALTER SYSTEM SET autovacuum_naptime = '3s'")
    sql("SELECT pg_reload_conf()")
    # The same number of dead rows for a period as in seven days of it.
    threshold = options.rate * options.seconds // 10
    sql(f"ALTER TABLE notify_gateway.event SET (autovacuum_vacuum_threshold = {threshold})")
    environment = {**os.environ, "DATABASE_URL": about["url"], "JWT_SECRET": "x" * 40}
    environment |= {"GATEWAY_BIND": "127.0.0.1:0", "GATEWAY_ADMIN_BIND": "127.0.0.1:0"}
    environment |= {"GATEWAY_RETENTION": f"{options.seconds}s"}
    binary = ROOT / "target/release/notify-gateway"
    gateway = subprocess.Popen([binary], env=environment, stderr=subprocess.DEVNULL)
    sizes, waits = [], []
    try:
        with tempfile.TemporaryDirectory() as directory:
            script = pathlib.Path(directory, "insert.sql")
            script.write_text(INSERT)
            for period in range(options.periods):
                command = ["pgbench", "-n", "-c", "4", "-R", str(options.rate), "-T", str(options.seconds)]
                command += ["-l", "--log-prefix", f"{directory}/{period}", "-f", script, about["url"]]
                began = time.monotonic()
                running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                while running.poll() is None:
                    time.sleep(1)
                    size = int(sql("SELECT pg_total_relation_size('notify_gateway.event')"))
                    if time.monotonic() - began > options.seconds - 3:
                        sizes[period:] = [size]
                taken = []
                for log in pathlib.Path(directory).glob(f"{period}.*"):
                    # client, transaction, latency, script, time, µs, lag
                    lines = (line.split() for line in log.read_text().splitlines())
                    taken += [(int(fields[2]) - int(fields[6])) / 1000 for fields in lines]
                waits.append(taken)
                rows = sql("SELECT count(*) FROM notify_gateway.event")
                print(
                    f"period {period + 1:>2}: {sizes[period] / 2**20:6.1f} MiB, {rows} events,"
                    f" p50 {percentile(taken, 0.5):.2f} ms, p99 {percentile(taken, 0.99):.2f} ms",
                    flush=True,
                )
    finally:
        gateway.terminate()
        gateway.wait()
        guard.stdin.close()
        guard.wait()
    print(f"\nsize: at most {max(sizes[1:]) / sizes[0]:.2f} of what one period takes")
    p99 = [percentile(taken, 0.99) for taken in waits]
    after = statistics.median(p99[2:])
    print(f"p99 of a writer: {after / p99[0]:.2f} of the time without pruning ({after:.2f} ms)")


if __name__ == "__main__":
    main()
