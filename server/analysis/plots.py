"""Misses against false alarms for every tried policy, today's marked: one HTML file that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDE, _HIGH, _EDGE = 720, 420, 56
_STYLES = {
    "tried": ("#9aa5b1", 4),
    "frontier": ("#2f6f9f", 5),
    "today": ("#c0392b", 8),
    "best so far": ("#b9770e", 8),
    "recommended": ("#1e8449", 8),
}
_NAMED = ("today", "best so far", "recommended")
_LEGEND = {"tried": "tried", "frontier": "beaten by none"}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
svg {{ width: 100%; height: auto; font-size: 13px }}
@media (max-width: 40rem) {{ svg {{ font-size: 22px }} }}
pre {{ background: #f4f6f8; padding: 1rem; overflow: auto }}
td, th {{ padding: .1rem .8rem; text-align: right }} td:last-child, th:last-child {{ text-align: left }}
</style>
<h1>{title}</h1>
{words}
{plot}
<h2>The change</h2>
<pre>{diff}</pre>
<h2>The policies that no other beats</h2>
<p>None misses fewer and has no more false alarms; which to take is a matter of what a miss costs.</p>
<table><tr><th>missed</th><th>false alarms {unit}</th><th>policy</th></tr>
{rows}
</table>
</html>
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One policy in the plot. `mark` is tried, frontier, today, best so far or recommended."""

    misses: int
    alarms: float
    words: str
    mark: str


def frontier(points: Sequence[tuple[int, float]]) -> set[int]:
    """Indices of the points that no other beats: fewer misses, fewer alarms, or both."""
    kept: set[int] = set()
    fewest = float("inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][1], points[i][0], i)):
        if points[index][0] < fewest:
            kept.add(index)
            fewest = points[index][0]
    return kept


def write_html(
    file: Path, title: str, words: Sequence[str], diff: Sequence[str], points: Sequence[Point], unit: str
) -> None:
    """One self-contained page: the recommendation, the plot, the change, the frontier."""
    best = sorted((p for p in points if p.mark != "tried"), key=lambda p: (p.alarms, p.misses))
    rows = (
        f"<tr><td>{p.misses}</td><td>{p.alarms:g}</td><td>{escape(p.words)}"
        f"{f' <b>{p.mark}</b>' if p.mark in _NAMED else ''}</td></tr>"
        for p in best
    )
    page = _PAGE.format(
        title=escape(title),
        words="\n".join(f"<p>{escape(line)}</p>" for line in words),
        plot="\n".join(_svg(points, unit)),
        diff=escape("\n".join(diff) or "none"),
        rows="\n".join(rows),
        unit=escape(unit),
    )
    file.write_text(page, encoding="utf-8")


def _svg(points: Sequence[Point], unit: str) -> Iterator[str]:
    most_x = max((p.alarms for p in points), default=0) or 1
    most_y = max((p.misses for p in points), default=0) or 1

    def x(alarms: float) -> float:
        return _EDGE + alarms / most_x * (_WIDE - 2 * _EDGE)

    def y(misses: float) -> float:
        return _HIGH - _EDGE - misses / most_y * (_HIGH - 2 * _EDGE)

    yield f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="misses against false alarms">'
    yield f'<path d="M{_EDGE} {_EDGE / 2}V{_HIGH - _EDGE}H{_WIDE - _EDGE / 2}" fill="none" stroke="#555"/>'
    for part in (0, 0.5, 1):
        below = f'x="{x(part * most_x):.0f}" y="{_HIGH - _EDGE + 18}"'
        yield f'<text {below} text-anchor="middle">{part * most_x:.3g}</text>'
        yield f'<text x="{_EDGE - 8}" y="{y(part * most_y) + 4:.0f}" text-anchor="end">{part * most_y:.3g}</text>'
    yield f'<text x="{_WIDE / 2}" y="{_HIGH - 12}" text-anchor="middle">false alarms {escape(unit)}</text>'
    yield f'<text x="{_EDGE}" y="20">true events missed</text>'
    for row, (mark, caption) in enumerate(_LEGEND.items()):
        colour, size = _STYLES[mark]
        y_px = 20 + 26 * row
        yield f'<circle cx="{_WIDE - 8}" cy="{y_px - 5}" r="{size}" fill="{colour}"/>'
        yield f'<text x="{_WIDE - 20}" y="{y_px}" text-anchor="end">{caption}</text>'
    for point in sorted(points, key=lambda p: list(_STYLES).index(p.mark)):
        colour, size = _STYLES[point.mark]
        at = f'cx="{x(point.alarms):.1f}" cy="{y(point.misses):.1f}" r="{size}"'
        caption = escape(f"{point.words}: {point.misses} missed, {point.alarms:g} false alarms")
        yield f'<circle {at} fill="{colour}" fill-opacity="0.8"><title>{caption}</title></circle>'
        if point.mark in _NAMED:
            side, anchor = (12, "start") if point.alarms < 0.7 * most_x else (-12, "end")  # never out of the picture
            where = f'x="{x(point.alarms) + side:.1f}" y="{y(point.misses) - 8:.1f}" text-anchor="{anchor}"'
            yield f'<text {where} fill="{colour}">{point.mark}</text>'
    yield "</svg>"
