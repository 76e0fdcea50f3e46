"""Others on the machine: waits until they are calm, and measures again what they have
disturbed. A compiler beside a server doubles what a delivery costs it, and takes the
writers' cores."""

import pathlib
import time

# Cores that others may take.
CALM = 0.4
# How long to wait for that, and how often to measure. Then it is taken as it is.
PATIENCE_S = 60
ATTEMPTS = 3


def busy_cores(before, after):
    """Of two first lines of /proc/stat, by their difference in jiffies; what the host
    keeps from this machine (steal) is busy too."""
    spent = [int(b) - int(a) for a, b in zip(before.split()[1:9], after.split()[1:9])]
    idle = spent[3] + spent[4]
    return (sum(spent) - idle) / max(1, sum(spent))


def wait(cores, now=time.monotonic, sleep=time.sleep, stat=None):
    """Until all of the machine is as calm as others may be, or patience ends."""
    stat = stat or (lambda: pathlib.Path("/proc/stat").read_text().splitlines()[0])
    until = now() + PATIENCE_S
    while now() < until:
        before = stat()
        sleep(1)
        if busy_cores(before, stat()) * cores <= CALM:
            return


def calmest(measure, attempts=ATTEMPTS):
    """The result of `measure` that others have disturbed the least; the first that they
    have not."""
    best = None
    for _ in range(attempts):
        result = measure()
        if best is None or others(result) < others(best):
            best = result
        if others(best) <= CALM:
            break
    return best


def others(result):
    return result["generator"]["others_cores"] or 0
