"""The chart for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

from bench.formatting import text

#: The drawn figures, and the sizes of the picture in pixels.
DRAWN = ("end to end, jobs/s", "drain, jobs/s")
WIDTH, LABEL, BAR, GAP = 760, 150, 14, 10


def picture(contest: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return bars, longest first, as SVG that is readable on light and on dark pages."""
    parts, y = [], 0
    for figure in DRAWN:
        parts.append(f'<text x="0" y="{y + 16}" class="title">{escape(figure)}</text>')
        y += 28
        bars = sorted(((median(passes[figure]), name) for name, passes in contest.items()), reverse=True)
        for value, name in bars:
            width = (WIDTH - LABEL - 80) * value / bars[0][0]
            kind = "own" if name == "taskd" else "other"
            parts.append(
                f'<text x="{LABEL - 8}" y="{y + BAR - 2}" class="name">{escape(name)}</text>'
                f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" class="{kind}"/>'
                f'<text x="{LABEL + width + 6:.1f}" y="{y + BAR - 2}">{text(value)}</text>'
            )
            y += BAR + GAP
        y += GAP
    style = (
        "text{font:13px sans-serif;fill:#57606a}.title{font-weight:bold}.name{text-anchor:end}"
        ".own{fill:#2da44e}.other{fill:#8c959f}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">'
    return f"{head}<style>{style}</style>{''.join(parts)}</svg>\n"
