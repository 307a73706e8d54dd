"""A bar chart as SVG text: one bar each, on a logarithmic scale, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["bar_chart"]

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 720, 30, 190, 150, 46
_STYLE = """\
<style>
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
  .bar { fill: #8c959f } .ours { fill: #1a7f64 } .grid { stroke: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .bar { fill: #656c76 }
    .ours { fill: #3fb68b } .grid { stroke: #3d444d }
  }
</style>"""


def bar_chart(title: str, unit: str, bars: Sequence[tuple[str, float, bool]]) -> str:
    """Return a chart of (label, value above 0, is ours), in the order given."""
    low = 10 ** math.floor(math.log10(min(value for _, value, _ in bars)))
    high = 10 ** math.ceil(math.log10(max(value for _, value, _ in bars)))
    high = max(high, low * 10)
    room = _WIDTH - _LEFT - _RIGHT

    def place(value: float) -> float:
        return _LEFT + room * math.log10(value / low) / math.log10(high / low)

    height = _TOP + _ROW * len(bars) + 30
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
    lines = [
        f'{head} aria-label="{escape(title)}">',
        _STYLE,
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
    ]
    bottom = _TOP + _ROW * len(bars)
    mark = low
    while mark <= high:
        x = place(mark)
        lines.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{bottom}"/>'
        )
        lines.append(
            f'<text class="small" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{mark:,.0f}</text>'
        )
        mark *= 10
    for number, (label, value, ours) in enumerate(bars):
        y = _TOP + number * _ROW
        kind = "ours" if ours else "bar"
        # A bar of the lowest value is still to be seen.
        width = max(2.0, place(value) - _LEFT)
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>')
        lines.append(
            f'<rect class="{kind}" x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="18" rx="2"/>'
        )
        lines.append(
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 16}">{value:,.0f} {escape(unit)}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"
