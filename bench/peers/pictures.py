"""Horizontal bars with names and numbers, as SVG. Pure, without a library.

The text has the colour of the page's text, by the reader's colour scheme, since a
picture in a page does not inherit it; the two colours of the bars are seen on white and
on black alike.
"""

from xml.sax.saxutils import escape

# Of the gateway, and of all others.
OURS = "#d4650f"
OTHERS = "#5b86b5"

WIDTH = 720
NAMES = 130
NUMBERS = 90
BAR = 16
STEP = 22
TOP = 34

STYLE = (
    ":root{color:#1f2328}"
    "@media(prefers-color-scheme:dark){:root{color:#e6edf3}}"
    "text{fill:currentColor;font:13px system-ui,sans-serif}"
    ".title{font-weight:600}"
)


def bars(title, groups):
    """`groups`: of (heading, [(name, value, shown, is_ours)]); bars of a group are on one
    scale, the longest value the whole width. A value is shown as it is given."""
    parts, y = [], TOP
    for heading, rows in groups:
        if heading:
            parts.append(text(0, y + 4, heading))
            y += STEP
        most = max((value for _, value, _, _ in rows), default=0) or 1
        for name, value, shown, is_ours in rows:
            length = max(1, (WIDTH - NAMES - NUMBERS) * value / most)
            middle = y + BAR / 2 + 4.5
            parts.append(text(NAMES - 8, middle, name, anchor="end"))
            parts.append(
                f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"'
                f' fill="{OURS if is_ours else OTHERS}"/>'
            )
            parts.append(text(NAMES + length + 6, middle, shown))
            y += STEP
        y += 8
    label = "; ".join(
        f"{name} {shown}" for _, rows in groups for name, _, shown, _ in rows
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
        f' role="img" aria-label="{escape(f"{title}: {label}", {chr(34): "&quot;"})}">\n'
        f"<style>{STYLE}</style>\n{text(0, 16, title, kind='title')}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def text(x, y, content, anchor="start", kind=None):
    end = ' text-anchor="end"' if anchor == "end" else ""
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{end}{of_kind}>{escape(content)}</text>'


def luminance(colour):
    """Relative, as WCAG 2 has it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
