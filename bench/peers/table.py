"""Medians of rounds, their spread, ratios to the floor within a round, Markdown. Pure.

`results` is mode name → server → round → result; `values` of a figure is round → number.
"""

import statistics
from dataclasses import dataclass
from typing import Optional


def values(figure, rounds):
    """Those that there are."""
    picked = {number: figure.pick(result) for number, result in rounds.items()}
    return {number: value for number, value in picked.items() if value is not None}


def median(by_round):
    return statistics.median(by_round.values()) if by_round else None


def ratio(by_round, floor):
    """The median of the rounds' ratios; only a round that has both has one."""
    ratios = [value / floor[number] for number, value in by_round.items() if floor.get(number)]
    return statistics.median(ratios) if ratios else None


def number(value):
    """Three digits that mean something."""
    if value is None:
        return "—"
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cell(by_round, floor, has_ratio):
    """`median (least–most) ratio ×`"""
    if not by_round:
        return "—"
    shown = number(median(by_round))
    least, most = number(min(by_round.values())), number(max(by_round.values()))
    if least != most:
        shown += f" ({least}–{most})"
    by_floor = ratio(by_round, floor) if has_ratio else None
    return shown if by_floor is None else f"{shown} **{by_floor:.2f} ×**"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def mode_table(mode, by_server):
    """One mode as a table; a column that nobody has a number for is left out."""
    found = {
        server: {figure.key: values(figure, rounds) for figure in mode.figures}
        for server, rounds in by_server.items()
    }
    figures = [
        figure for figure in mode.figures if any(by_key[figure.key] for by_key in found.values())
    ]
    floor = found.get("floor", {})
    lines = [
        row(["", *(figure.title for figure in figures)]),
        row(["---", *("---:" for _ in figures)]),
    ]
    for server, by_key in found.items():
        cells = [
            cell(by_key[figure.key], floor.get(figure.key, {}), figure.has_ratio and server != "floor")
            for figure in figures
        ]
        lines.append(row([server, *cells]))
    return "\n".join(lines)


def of(modes, results, mode, server, key):
    """A figure's values, by names."""
    figures = {figure.key: figure for each in modes if each.name == mode for figure in each.figures}
    return values(figures[key], results.get(mode, {}).get(server, {}))


def aim_value(aim, modes, results):
    """What an aim is about, none where it was not measured."""
    mode, key = aim.figure
    mine = of(modes, results, mode, aim.server, key)
    if aim.by is None:
        return median(mine)
    return ratio(mine, of(modes, results, *aim.by))


def aims_table(aims, modes, results):
    lines = [row(["aim", "measured", "at the most", ""]), row(["---", "---:", "---:", "---"])]
    for aim in aims:
        value = aim_value(aim, modes, results)
        verdict = "not measured" if value is None else "holds" if value <= aim.limit else "**missed**"
        lines.append(row([aim.what, number(value), number(aim.limit), verdict]))
    return "\n".join(lines)


@dataclass(frozen=True)
class Rank:
    """The gateway beside the best of the peers in one figure."""

    mode: str
    title: str
    gateway: float
    peer: str
    best: float
    more_is_better: bool

    @property
    def is_first(self):
        return self.gateway >= self.best if self.more_is_better else self.gateway <= self.best


def ranks(modes, results, peers):
    """In every figure that servers are ranked by. A peer that loses rows in a mode is no
    measure in it: what is not delivered costs nothing and is never late."""
    found = []
    for mode in modes:
        by_server = results.get(mode.name, {})
        for figure in mode.figures:
            mine = median(values(figure, by_server.get("gateway", {})))
            theirs = {
                peer: median(values(figure, by_server[peer]))
                for peer in peers
                if peer in by_server and not loses(mode, by_server[peer])
            }
            theirs = {peer: value for peer, value in theirs.items() if value is not None}
            if not figure.is_ranked or mine is None or not theirs:
                continue
            best = (max if figure.more_is_better else min)(theirs, key=theirs.get)
            found.append(
                Rank(mode.name, figure.title, mine, best, theirs[best], figure.more_is_better)
            )
    return found


def loses(mode, rounds):
    return any(
        value > 0 for figure in mode.figures if figure.key == "lost" for value in values(figure, rounds).values()
    )


def ranks_text(found):
    firsts = sum(rank.is_first for rank in found)
    text = f"The gateway is first of all peers in {firsts} of {len(found)} figures."
    behind = [rank for rank in found if not rank.is_first]
    if not behind:
        return text
    lines = [
        text + " It is not in:",
        "",
        row(["mode", "figure", "gateway", "best peer", ""]),
        row(["---", "---", "---:", "---:", "---"]),
    ]
    for rank in behind:
        lines.append(row([rank.mode, rank.title, number(rank.gateway), number(rank.best), rank.peer]))
    return "\n".join(lines)


@dataclass(frozen=True)
class About:
    """What was where."""

    machine: list  # of lines
    versions: list
    commands: dict  # mode → command
    command: str  # of the whole


def render(modes, aims, results, peers, about, pictures=(), head: Optional[str] = None):
    """`pictures`: title and path of each."""
    measured = [mode for mode in modes if results.get(mode.name)]
    counts = {len(rounds) for by_server in results.values() for rounds in by_server.values()}
    span = "–".join(str(count) for count in sorted({min(counts), max(counts)}))
    parts = [head] if head else []
    parts += [
        "# The gateway beside its peers",
        f"Medians of {span} interleaved rounds; in parentheses the least and the most of them; in bold the\n"
        "median of the ratios to the floor of the same round. A ratio says something; a number alone says\n"
        "nothing. The *floor* is the least a program can do (no authentication, no cursor, no guarantee).",
        *(f"![{title}]({path})" for title, path in pictures),
        "## Aims",
        aims_table(aims, modes, results),
        ranks_text(ranks(modes, results, peers)) + "\n\nA peer that loses rows in a mode is not counted in it.",
        "## Figures",
    ]
    for mode in measured:
        parts.append(f"### {mode.name}\n\n{mode.title[0].upper()}{mode.title[1:]}.")
        parts.append(mode_table(mode, results[mode.name]))
    parts += [
        "## What was measured",
        "\n".join(f"- {line}" for line in about.machine + about.versions),
        "```sh\n" + about.command + "\n```",
        "with, in each mode:",
        "\n".join(f"- {mode}: `{command}`" for mode, command in about.commands.items()),
    ]
    return "\n\n".join(parts) + "\n"
