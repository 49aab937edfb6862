"""Misses against false alarms for every tried policy, today's marked: one HTML file that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from server.domain.files.atomic_files import replacing

_WIDE, _HIGH, _EDGE = 720, 420, 56
_LETTER, _LINE = 13.0, 22.0
"""The most that a letter takes in width, and a line in height: with the larger letters of a narrow screen."""

_Rectangle = tuple[float, float, float, float]
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
<table><tr><th>no.</th><th>missed</th><th>false alarms {unit}</th><th>policy</th></tr>
{rows}
</table>
<h2>All policies that were tried</h2>
<table><tr><th>no.</th><th>missed</th><th>false alarms {unit}</th><th>policy</th></tr>
{every}
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
    numbered = list(enumerate(points, 1))
    best = sorted((each for each in numbered if each[1].mark != "tried"), key=lambda e: (e[1].alarms, e[1].misses))
    page = _PAGE.format(
        title=escape(title),
        words="\n".join(f"<p>{escape(line)}</p>" for line in words),
        plot="\n".join(_svg(points, unit)),
        diff=escape("\n".join(diff) or "none"),
        rows="\n".join(_row(number, point) for number, point in best),
        every="\n".join(_row(number, point) for number, point in numbered),
        unit=escape(unit),
    )
    with replacing(file) as aside:
        aside.write_text(page, encoding="utf-8")


def _row(number: int, point: Point) -> str:
    mark = f" <b>{point.mark}</b>" if point.mark in _NAMED else ""
    cells = (str(number), str(point.misses), f"{point.alarms:g}", f"{escape(point.words)}{mark}")
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


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
    spots = [(x(p.alarms), y(p.misses)) for p in points]
    for index in sorted(range(len(points)), key=lambda i: list(_STYLES).index(points[i].mark)):
        point, (at_x, at_y) = points[index], spots[index]
        colour, size = _STYLES[point.mark]
        caption = escape(f"{index + 1}: {point.words}: {point.misses} missed, {point.alarms:g} false alarms")
        circle = f'cx="{at_x:.1f}" cy="{at_y:.1f}" r="{size}"'
        yield f'<circle {circle} fill="{colour}" fill-opacity="0.8"><title>{caption}</title></circle>'
    yield from _labels(points, spots, x(0.7 * most_x))
    yield "</svg>"


def _labels(points: Sequence[Point], spots: Sequence[tuple[float, float]], turn_x: float) -> Iterator[str]:
    """The numbers of the policies at each place, and the names of the marked ones, where they cover nothing.

    A number that finds no free place is left out: the table and the point's title have it.
    """
    taken: list[_Rectangle] = [
        (_WIDE / 2, 0, _WIDE, 60),
        (0, 0, _WIDE, 26),
        (0, 0, _EDGE, _HIGH),
        (0, _HIGH - _EDGE + 4, _WIDE, _HIGH),
    ]
    taken += [(sx - 4, sy - 4, sx + 4, sy + 4) for sx, sy in dict.fromkeys(spots)]
    numbers: dict[tuple[float, float], list[int]] = {}
    for number, spot in enumerate(spots, 1):
        numbers.setdefault((round(spot[0]), round(spot[1])), []).append(number)
    named = [i for i, point in enumerate(points) if point.mark in _NAMED]
    texts = [(spots[i], points[i].mark, _STYLES[points[i].mark][0]) for i in named]
    texts += [(spot, _numbered(of), _STYLES["tried"][0]) for spot, of in numbers.items()]
    for spot, text, colour in texts:
        where = _free(spot, text, taken, to_left=spot[0] >= turn_x)
        if where is None and text in _NAMED:
            where = _free(spot, text, taken[:1], to_left=spot[0] >= turn_x)
        if where is not None:
            at_x, at_y, anchor, rectangle = where
            taken.append(rectangle)
            yield f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def _free(
    spot: tuple[float, float], text: str, taken: Sequence[_Rectangle], *, to_left: bool
) -> tuple[float, float, str, _Rectangle] | None:
    """The first place near a point at which a text covers nothing: its x, y, anchor and rectangle."""
    wide = _LETTER * len(text)
    for down in (-8, 22, -30, 44, -52, 66, -74, 88, -96):
        for left in (to_left, not to_left):
            at_x, at_y = spot[0] + (-12 if left else 12), spot[1] + down
            begin = at_x - wide if left else at_x
            rectangle = (begin, at_y - _LINE + 4, begin + wide, at_y + 4)
            is_inside = begin >= 0 and begin + wide <= _WIDE and rectangle[1] >= 0 and rectangle[3] <= _HIGH
            if is_inside and not any(_cover(rectangle, other) for other in taken):
                return at_x, at_y, "end" if left else "start", rectangle
    return None


def _cover(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _numbered(numbers: Sequence[int]) -> str:
    """`1`, `3, 5`, or `7 to 31` for many at one place."""
    return ", ".join(map(str, numbers)) if len(numbers) < 3 else f"{numbers[0]}, .. {numbers[-1]}"
