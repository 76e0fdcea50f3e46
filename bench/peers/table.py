"""Medians of rounds, ratios to the floor, Markdown. Pure."""

import statistics


def medians(mode, results):
    """Figure by key → median over a server's results; none where none has it."""
    found = {}
    for figure in mode.figures:
        picked = [figure.pick(result) for result in results]
        picked = [value for value in picked if value is not None]
        found[figure.key] = statistics.median(picked) if picked else None
    return found


def number(value):
    """Three digits that mean something."""
    if value is None:
        return "—"
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cell(value, floor, has_ratio):
    shown = number(value)
    if has_ratio and value is not None and floor:
        shown += f" ({value / floor:.2f} ×)"
    return shown


def row(cells):
    return "| " + " | ".join(cells) + " |"


def mode_table(mode, by_server):
    """One mode as a table; a column that nobody has a number for is left out."""
    found = {server: medians(mode, results) for server, results in by_server.items()}
    figures = [
        figure
        for figure in mode.figures
        if any(values[figure.key] is not None for values in found.values())
    ]
    floor = found.get("floor", {})
    lines = [
        f"**{mode.name}**: {mode.title}",
        "",
        row(["", *(figure.title for figure in figures)]),
        row(["---", *("---:" for _ in figures)]),
    ]
    for server, values in found.items():
        cells = [
            cell(values[figure.key], floor.get(figure.key), figure.has_ratio and server != "floor")
            for figure in figures
        ]
        lines.append(row([server, *cells]))
    return "\n".join(lines)


def aim_value(aim, found):
    """What an aim is about, none where it was not measured. `found`: mode →
    server → figure → median."""
    mode, key = aim.figure
    value = found.get(mode, {}).get("gateway", {}).get(key)
    if value is None or aim.by is None:
        return value
    mode, server, key = aim.by
    by = found.get(mode, {}).get(server, {}).get(key)
    return value / by if by else None


def aims_table(aims, found):
    lines = [row(["aim", "measured", "at the most", ""]), row(["---", "---:", "---:", "---"])]
    for aim in aims:
        value = aim_value(aim, found)
        verdict = "not measured" if value is None else "holds" if value <= aim.limit else "**missed**"
        lines.append(row([aim.what, number(value), number(aim.limit), verdict]))
    return "\n".join(lines)


def render(modes, aims, results, about):
    """`results`: mode name → server → results; `about`: lines of what was where."""
    measured = [mode for mode in modes if results.get(mode.name)]
    found = {
        mode.name: {
            server: medians(mode, list_) for server, list_ in results[mode.name].items()
        }
        for mode in measured
    }
    parts = ["\n".join(f"- {line}" for line in about)]
    parts += [mode_table(mode, results[mode.name]) for mode in measured]
    parts.append(aims_table(aims, found))
    return "\n\n".join(parts) + "\n"
