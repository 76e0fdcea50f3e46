"""What is measured: the modes, the figures read from each, and the aims."""

from dataclasses import dataclass
from typing import Callable, Optional

# Servers that bring rows as they come; polling is another thing.
LIVE = ("floor", "floor-gather", "gateway", "naive-axum", "nchan", "mercure", "centrifugo", "fastapi", "pg-sse")
# Those whose way of serving is in no other of the list, where rows do not matter.
IDLE = tuple(name for name in LIVE if name != "floor-gather")
# Streams at which memory is weighed.
WEIGHED = (5_000, 10_000, 18_000)


@dataclass(frozen=True)
class Figure:
    """A number of a result."""

    key: str
    title: str
    pick: Callable[[dict], Optional[float]]
    # What is counted has no ratio.
    has_ratio: bool = True
    more_is_better: bool = False
    # Whether servers are ranked by it: what only tells what happened is not.
    is_ranked: bool = True


@dataclass(frozen=True)
class Mode:
    name: str
    title: str
    # Of notify-loadtest.
    arguments: tuple
    figures: tuple
    # The same in less time; none: not in the quick profile.
    quick: Optional[tuple] = None
    servers: tuple = LIVE
    # So many processes of the server at once.
    replicas: int = 1
    heartbeat_s: int = 30
    # Whether others on the machine can disturb what is measured; memory they cannot.
    heeds_others: bool = True


def server(key):
    return lambda result: result["server"][key]


def latency(name, key):
    return lambda result: (result["latencies"][name] or {}).get(key)


def finding(key):
    return lambda result: result["findings"][key]


def memory(streams):
    """KiB a stream, from none to so many."""

    def pick(result):
        weights = {weight["streams"]: weight["pss"] for weight in result["weights"]}
        if streams not in weights:
            return None
        return (weights[streams] - weights[0]) / 1024 / streams

    return pick


def heartbeat_cpu(result):
    """µs for one heartbeat, at one a second. A server whose heartbeats are comments has no
    events to count: for it the number of heartbeats that were due is taken."""
    counted = result["server"]["cpu_us_per_event"]
    due = result["streams"] * result["measured_s"]
    return counted if counted is not None or not due else result["server"]["cpu_s"] * 1e6 / due


def postgres_cpu(result):
    cores = result["generator"]["postgres_cores"]
    if cores is None or not result["deliveries"]:
        return None
    return cores * result["measured_s"] / result["deliveries"] * 1e5


CPU = Figure("cpu", "CPU, s / 100k deliveries", server("cpu_s_per_100k"))
# Of a peer in two processes, the one that serves the streams.
FRONT = Figure(
    "front", "of it, without the bridge", lambda result: result.get("front_cpu_s_per_100k"), is_ranked=False
)
LOST = Figure("lost", "lost", finding("lost"), has_ratio=False, is_ranked=False)
DOUBLED = Figure("doubled", "doubled", finding("doubled"), has_ratio=False, is_ranked=False)
POSTGRES = Figure("postgres", "Postgres' CPU, s / 100k deliveries", postgres_cpu)
ROWS = Figure("rows", "rows written a second", lambda r: r["rows_per_s"], more_is_better=True)
DELIVERIES = Figure("deliveries", "deliveries a second", lambda r: r["deliveries_per_s"], more_is_better=True)
P50 = Figure("p50", "commit → receipt p50, ms", latency("acknowledged", "p50_ms"))
P99 = Figure("p99", "commit → receipt p99, ms", latency("acknowledged", "p99_ms"))

MODES = (
    Mode(
        "saturation",
        "50,000 rows for 1,000 streams of as many users, as fast as Postgres takes them",
        ("saturation", "-n", "1000", "--rows", "50000"),
        (CPU, FRONT, P50, P99, ROWS, DELIVERIES, POSTGRES, LOST, DOUBLED),
        quick=("saturation", "-n", "1000", "--rows", "20000"),
        servers=(*LIVE, "gateway-loud", "gateway-2"),
    ),
    Mode(
        "saturation-10k",
        "50,000 rows for 10,000 streams of as many users",
        ("saturation", "-n", "10000", "--rows", "50000"),
        (CPU, FRONT, LOST),
        servers=("floor", "gateway", "naive-axum", "nchan", "mercure", "centrifugo"),
    ),
    Mode(
        "broadcast",
        "one transaction with a row for each of 5,000, three times",
        ("broadcast", "-n", "5000", "--rounds", "3"),
        (CPU, FRONT, Figure("last", "COMMIT → last receipt, ms", lambda r: max(r["broadcasts_ms"])), LOST),
        quick=("broadcast", "-n", "5000", "--rounds", "2", "--every", "1500ms"),
        servers=(*LIVE, "gateway-loud"),
    ),
    Mode(
        "tabs",
        "200 rows for one user with 1,000 streams, each row a transaction, as fast as Postgres takes them",
        ("saturation", "-n", "1000", "--streams-per-user", "1000", "--rows", "200"),
        (CPU, FRONT, DELIVERIES, LOST),
        quick=("saturation", "-n", "1000", "--streams-per-user", "1000", "--rows", "200"),
        servers=(*LIVE, "gateway-2"),
    ),
    Mode(
        "tabs-transaction",
        "the same 200 rows in one transaction",
        ("saturation", "-n", "1000", "--streams-per-user", "1000", "--rows", "200",
         "--rows-per-transaction", "200"),
        (CPU, FRONT, LOST),
    ),
    Mode(
        "steady",
        "1,000 streams of as many users, 200 rows a second",
        ("steady", "-n", "1000", "--rate", "200", "--duration", "20s"),
        (P50, P99,
         Figure("sent50", "INSERT sent → receipt p50, ms", latency("sent", "p50_ms")),
         Figure("sent99", "INSERT sent → receipt p99, ms", latency("sent", "p99_ms")),
         CPU, FRONT, LOST),
        quick=("steady", "-n", "1000", "--rate", "200", "--duration", "8s"),
        servers=(*LIVE, "fastapi-polling"),
    ),
    Mode(
        "idle",
        "streams without rows, heartbeats every 30 s: memory (PSS)",
        ("idle", "-n", "18000", "--steps", "18", "--ramp", "4000", "--duration", "3s"),
        tuple(
            Figure(f"kib{count}", f"KiB a stream at {count:,}", memory(count)) for count in WEIGHED
        ),
        quick=("idle", "-n", "5000", "--steps", "5", "--ramp", "4000", "--duration", "2s"),
        servers=(*IDLE, "fastapi-polling"),
        heeds_others=False,
    ),
    Mode(
        "heartbeats",
        "5,000 streams without rows, a heartbeat to each every second",
        ("idle", "-n", "5000", "--steps", "1", "--duration", "15s"),
        (Figure("cpu", "CPU, µs a heartbeat", heartbeat_cpu),),
        quick=("idle", "-n", "5000", "--steps", "1", "--duration", "6s"),
        servers=IDLE,
        heartbeat_s=1,
    ),
    Mode(
        "fleet",
        "50,000 streams held by three processes at once, heartbeats every 30 s",
        ("idle", "-n", "50000", "--steps", "1", "--ramp", "5000", "--duration", "65s"),
        (Figure("held", "streams held", lambda r: r["streams"], has_ratio=False),
         Figure("beats", "heartbeats", lambda r: r["other_events"], has_ratio=False),
         Figure("cpu", "CPU of all three, % of a core", lambda r: r["server"]["cores"] * 100),
         Figure("pss", "memory of all three, MiB", lambda r: r["server"]["pss_open"] / 2**20),
         Figure("ended", "streams ended", lambda r: sum(r["ends"].values()), has_ratio=False)),
        servers=("floor", "gateway"),
        replicas=3,
        heeds_others=False,
    ),
    Mode(
        "rush",
        "5,000 connects at once (the floor, nchan and Mercure verify no token here)",
        ("rush", "-n", "5000"),
        (Figure("cpu", "CPU, µs a connect", server("cpu_us_per_connect")),
         Figure("p50", "SYN → open p50, ms", latency("connect", "p50_ms")),
         Figure("p99", "SYN → open p99, ms", latency("connect", "p99_ms"))),
        quick=("rush", "-n", "5000"),
        servers=IDLE,
    ),
    Mode(
        "storm",
        "2,000 streams of as many users all cut at once while 1,000 rows a second go on",
        ("storm", "-n", "2000", "--rate", "1000", "--duration", "10s"),
        (LOST, DOUBLED,
         Figure("caught50", "cut → caught up p50, ms", latency("catch_up", "p50_ms")),
         Figure("caught99", "cut → caught up p99, ms", latency("catch_up", "p99_ms")),
         Figure("caughtmax", "cut → caught up at the most, ms", latency("catch_up", "max_ms")),
         CPU),
        quick=("storm", "-n", "2000", "--rate", "1000", "--duration", "6s"),
        servers=(*IDLE, "fastapi-polling"),
    ),
)


@dataclass(frozen=True)
class Aim:
    """What a figure of the gateway's may be at the most."""

    what: str
    figure: tuple  # mode, key
    limit: float
    # Mode, server and key that it is divided by, in the same round; none: the number itself.
    by: Optional[tuple] = None
    server: str = "gateway"


def by_floor(what, mode, key, limit, server="gateway"):
    return Aim(f"{what}, × floor", (mode, key), limit, (mode, "floor", key), server)


AIMS = (
    by_floor("saturation: CPU a delivery", "saturation", "cpu", 1.15),
    by_floor("broadcast: CPU a delivery", "broadcast", "cpu", 1.15),
    by_floor("many tabs: CPU a delivery", "tabs", "cpu", 0.12),
    by_floor("many tabs, one transaction: CPU a delivery", "tabs-transaction", "cpu", 0.12),
    by_floor("CPU a heartbeat", "heartbeats", "cpu", 1.3),
    by_floor("latency p50", "steady", "p50", 1.1),
    by_floor("latency p99", "steady", "p99", 1.2),
    by_floor("saturation: p99 of `--quiet never`", "saturation", "p99", 3, "gateway-loud"),
    Aim("memory at 10,000 streams, KiB a stream", ("idle", "kib10000"), 1.5),
    Aim("memory at 18,000 streams, KiB a stream", ("idle", "kib18000"), 1.5),
    Aim("memory at 18,000 streams, × at 10,000", ("idle", "kib18000"), 1.1, ("idle", "gateway", "kib10000")),
    Aim("CPU a connect, µs", ("rush", "cpu"), 60),
    Aim("CPU a delivery at 10,000 streams, × at 1,000", ("saturation-10k", "cpu"), 1.2,
        ("saturation", "gateway", "cpu")),
    Aim("reconnect storm: lost", ("storm", "lost"), 0),
    Aim("reconnect storm: doubled", ("storm", "doubled"), 0),
)
