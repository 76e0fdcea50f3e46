"""The figures of all rounds as a table and as a picture. Nothing here measures anything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

MARKERS = ("<!-- comparison: written by examples/comparison/compare.py -->", "<!-- comparison: end -->")

Figures = dict[str, float]
#: Of one round: the figures of each way.
Round = dict[str, Figures]

POLLING, IN_PROCESS, GATEWAY = WAYS = ("polling", "in-process", "gateway")
TITLES = {POLLING: "polling", IN_PROCESS: "in-process SSE", GATEWAY: "notify-gateway"}


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that this part of them does not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def number(value: float) -> str:
    """Three digits that count; of larger ones, and of whole ones, no fraction."""
    if math.isnan(value):
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 2)}f}"


def duration(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{number(milliseconds / 1000)} s"
    return f"{number(milliseconds)} ms"


def mib(value: float) -> str:
    return f"{value:.0f} MiB" if value else "–"


def ratio(value: float) -> str:
    return f"{value:.2f} ×"


@dataclass(frozen=True)
class Row:
    title: str
    pick: Callable[[Round, str], float]
    shown: Callable[[float], str] = number

    def values(self, rounds: Sequence[Round], way: str) -> list[float]:
        return [self.pick(each, way) for each in rounds]

    def median(self, rounds: Sequence[Round], way: str) -> float:
        return statistics.median(self.values(rounds, way))

    def cell(self, rounds: Sequence[Round], way: str) -> str:
        values = self.values(rounds, way)
        middle, least, most = (self.shown(of(values)) for of in (statistics.median, min, max))
        if least == most:
            return middle
        # A unit is said once where it is the same in all.
        units = {text.partition(" ")[2] for text in (middle, least, most)}
        if len(units) == 1:
            least, most = least.partition(" ")[0], most.partition(" ")[0]
        return f"{middle} ({least}–{most})"


def of(key: str) -> Callable[[Round, str], float]:
    return lambda each, way: each[way][key]


def in_all(each: Round, way: str) -> float:
    return each[way]["memory_with"] + each[way]["memory_gateway"]


def to_polling(key: str) -> Callable[[Round, str], float]:
    """Polling needs no trigger."""
    return lambda each, way: each[way][key] / each[POLLING][key]


REQUESTS = Row("requests a minute to the app while nothing happens", of("requests_a_minute"))
BELL_P50 = Row("from commit to the page, p50", of("bell_p50"), duration)
BELL_P99 = Row("from commit to the page, p99", of("bell_p99"), duration)
MEMORY_APP = Row("memory of the app with the pages open", of("memory_with"), mib)
MEMORY_GATEWAY = Row("memory of the gateway with the pages open", of("memory_gateway"), mib)
ANSWER_P50 = Row("the app's answer to another request, p50", of("answer_p50"), duration)
ANSWER_P99 = Row("the app's answer to another request, p99", of("answer_p99"), duration)
LOST = Row("deployment: rows that no page heard of", of("deploy_lost"))
INSERT_PACED = Row("INSERT, 100 a second: to no trigger", to_polling("insert_paced"), ratio)
INSERT_1 = Row("INSERT, 1 busy writer: to no trigger", to_polling("insert_1"), ratio)
INSERT_8 = Row("INSERT, 8 busy writers: to no trigger", to_polling("insert_8"), ratio)
ROWS = (
    Row("processes beside PostgreSQL and nginx", lambda each, way: 2 if way == GATEWAY else 1),
    REQUESTS,
    BELL_P50,
    BELL_P99,
    Row("rows that no page heard of, without a deployment", of("live_lost")),
    Row("memory of the app before the pages", of("memory_before"), mib),
    MEMORY_APP,
    MEMORY_GATEWAY,
    Row("memory of both", in_all, mib),
    ANSWER_P50,
    ANSWER_P99,
    Row("deployment: rows committed around it", of("deploy_rows")),
    LOST,
    Row(
        "deployment: slowest row that a page heard of", lambda each, way: each[way]["deploy_slowest_s"] * 1000, duration
    ),
    Row("deployment: other requests that failed", of("deploy_failed")),
    Row("deployment: polls or connections that failed", of("deploy_pages_failed")),
    Row("INSERT, 100 a second: median of a transaction", of("insert_paced"), duration),
    INSERT_PACED,
    Row("INSERT, 1 busy writer: median of a transaction", of("insert_1"), duration),
    INSERT_1,
    Row("INSERT, 8 busy writers: median of a transaction", of("insert_8"), duration),
    INSERT_8,
)


def table(rounds: Sequence[Round]) -> str:
    lines = ["| | " + " | ".join(TITLES[way] for way in WAYS) + " |", "|---|" + "---:|" * len(WAYS)]
    for row in ROWS:
        lines.append(f"| {row.title} | " + " | ".join(row.cell(rounds, way) for way in WAYS) + " |")
    return "\n".join(lines)


def heading(about: dict, rounds: int) -> str:
    """The machine, the versions and the amounts, as a list."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    plan = about["plan"]
    return "\n".join(
        [
            f"- Machine: {about['machine']}.",
            f"- Versions: {versions}. PostgreSQL with its defaults, fsync on; everything on this machine.",
            f"- {plan['streams']:,} pages, each of another user, polling every {plan['poll']:g} s or with one"
            f" stream; {plan['rows_a_second']:g} rows and {plan['requests_a_second']:g} other requests a second.",
            f"- {about['date']}, {rounds} interleaved round{'s' if rounds != 1 else ''}:"
            " the median, and in parentheses the least and the most.",
        ]
    )


def within(text: str, new: str) -> str:
    """The text with what is between the markers replaced."""
    begin, end = MARKERS
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the file needs one line {begin} and, below it, one line {end}")
    head, rest = text.split(begin)
    return f"{head}{begin}\n\n{new.strip()}\n\n{end}{rest.split(end)[1]}"


# ── The picture ─────────────────────────────────────────────────────────────────────────────────

COLOURS = {POLLING: "#8c6d31", IN_PROCESS: "#6b7280", GATEWAY: "#1d6fb8"}
PANEL_WIDTH, PANEL_HEIGHT, PANELS_A_LINE = 290, 132, 3
BAR_HEIGHT, BAR_LEFT, BAR_MOST = 20, 98, 116
PANELS = (
    ("Requests a minute to the app, idle", REQUESTS),
    ("From commit to the page, p50", BELL_P50),
    ("From commit to the page, p99", BELL_P99),
    ("The app's other answers, p99", ANSWER_P99),
    ("Lost over a deployment, rows", LOST),
    ("Memory of app and gateway", Row("", in_all, mib)),
    ("INSERT, 100 a second, × no trigger", INSERT_PACED),
    ("INSERT, 1 busy writer, × no trigger", INSERT_1),
    ("INSERT, 8 busy writers, × no trigger", INSERT_8),
)


def svg(rounds: Sequence[Round], about: dict) -> str:
    """A panel of bars for each of the main figures; on a ground of its own, so that it is legible anywhere."""
    lines = math.ceil(len(PANELS) / PANELS_A_LINE)
    width, height = PANEL_WIDTH * PANELS_A_LINE + 20, 52 + PANEL_HEIGHT * lines
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        "<title>Polling, in-process SSE and notify-gateway beside one application</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>',
        f'<text x="20" y="30" font-size="14" fill="#1f2328">{escape(caption(rounds, about))}</text>',
    ]
    for place, (title, row) in enumerate(PANELS):
        down, across = divmod(place, PANELS_A_LINE)
        drawn += panel(title, row, rounds, x=20 + across * PANEL_WIDTH, y=52 + down * PANEL_HEIGHT)
    return "\n".join([*drawn, "</svg>"]) + "\n"


def caption(rounds: Sequence[Round], about: dict) -> str:
    plan = about["plan"]
    return (
        f"{plan['streams']:,} open pages of one FastAPI application: shorter bars are better."
        f" Medians of {len(rounds)} round{'s' if len(rounds) != 1 else ''}."
    )


def panel(title: str, row: Row, rounds: Sequence[Round], x: float, y: float) -> list[str]:
    drawn = [f'<text x="{x}" y="{y + 16}" font-size="13" font-weight="600" fill="#1f2328">{escape(title)}</text>']
    values = {way: row.median(rounds, way) for way in WAYS}
    most = max(values.values()) or 1
    for place, (way, value) in enumerate(values.items()):
        top = y + 28 + place * (BAR_HEIGHT + 8)
        middle = top + BAR_HEIGHT / 2 + 4
        # A bar of nothing is still a line, so that its place is seen.
        length = max(value / most * BAR_MOST, 1.5)
        drawn += [
            f'<text x="{x}" y="{middle}" font-size="12" fill="#57606a">{escape(TITLES[way])}</text>',
            f'<rect x="{x + BAR_LEFT}" y="{top}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2"'
            f' fill="{COLOURS[way]}"/>',
            f'<text x="{x + BAR_LEFT + length + 6:.1f}" y="{middle}" font-size="12" fill="#1f2328">'
            f"{escape(row.shown(value))}</text>",
        ]
    return drawn
