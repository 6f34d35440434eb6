"""Curves over the steps of a run as inline SVG; see `bgeprep.report.charts` for the manner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bgeprep.report.markup import Markup, count, tag
from bgetrain.report.story import Points, thin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COLOURS", "Line", "figure", "short"]

COLOURS = ("kept", "exact", "quality", "merged", "score", "near", "benchmark", "unreadable")
"""Classes of the page's style, far apart for the eye in both schemes."""

_POINTS = 240
_MARKED = 40
_SMOOTHED = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend.
        colour: one of `COLOURS`.
        points: (step, value).
        marked: a step to mark, or None.
    """

    name: str
    colour: str
    points: Points
    marked: float | None = None


def figure(
    caption: str,
    lines: Sequence[Line],
    *,
    zero: bool = False,
    write: Callable[[float], str] | None = None,
    smooth: bool = False,
) -> Markup | None:
    """A chart with its caption and, where there are several curves, a legend.

    Args:
        caption: what is shown.
        lines: the curves; those without points are left out.
        zero: begin the axis of values at 0.
        write: a value in words; `short` by default.
        smooth: draw a curve of many points thin, with a mean over its neighbours above.

    Returns:
        The figure, None where no curve has a point.
    """
    shown = [line for line in lines if line.points]
    if not shown:
        return None
    legend = [tag("li", tag("span", class_=f"key k-{line.colour}", aria_hidden="true"), line.name) for line in shown]
    return tag(
        "figure",
        tag("figcaption", caption),
        _chart(caption, shown, zero=zero, write=write or short, smooth=smooth),
        tag("ul", legend, class_="legend") if len(shown) > 1 else None,
    )


def _chart(caption: str, lines: Sequence[Line], *, zero: bool, write: Callable[[float], str], smooth: bool) -> Markup:
    width, height, left, right, top, bottom = 440, 230, 56, 14, 12, 40
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    ticks = _ticks(0.0 if zero else min(values), max(values))
    low, high = ticks[0], ticks[-1]
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x_of(step: float) -> float:
        return left + (width - left - right) * (step - first) / (last - first)

    def y_of(value: float) -> float:
        return height - bottom - (height - bottom - top) * (value - low) / (high - low)

    drawn: list[Markup] = []
    for place, value in enumerate(ticks):
        y = y_of(value)
        drawn.append(tag("line", x1=left, y1=y, x2=width - right, y2=y, class_="grid" if place else "axis"))
        drawn.append(tag("text", write(value), x=left - 7, y=y + 4, text_anchor="end"))
    for tick in _whole_ticks(first, last):
        at, anchor = x_of(tick), "end" if x_of(tick) > width - right - 12 else "middle"
        drawn.append(tag("text", count(tick), x=at, y=height - bottom + 17, text_anchor=anchor))
    drawn.append(tag("text", "step", x=(left + width) / 2, y=height - 5, text_anchor="middle", class_="axis-title"))
    for line in lines:
        points = thin(line.points, _POINTS)
        rough = smooth and len(line.points) > _SMOOTHED
        drawn.append(_path(points, x_of, y_of, f"line{' thin' if rough else ''} k-{line.colour}"))
        if rough:
            drawn.append(_path(_smoothed(points), x_of, y_of, f"line k-{line.colour}"))
        for step, value in points if len(points) <= _MARKED else []:
            drawn.append(_dot(line, step, value, x_of, y_of, write, 2.5))
        drawn += [_dot(line, step, value, x_of, y_of, write, 5) for step, value in points if step == line.marked]
    told = "; ".join(f"{line.name}: {write(line.points[0][1])} to {write(line.points[-1][1])}" for line in lines)
    return tag(
        "svg", tag("title", f"{caption}. {told}"), *drawn, class_="chart", role="img", viewBox=f"0 0 {width} {height}"
    )


def _path(points: Points, x_of: Callable[[float], float], y_of: Callable[[float], float], class_: str) -> Markup:
    steps = "".join(
        f"{'L' if place else 'M'}{x_of(step):.1f} {y_of(value):.1f}" for place, (step, value) in enumerate(points)
    )
    return tag("path", d=steps, class_=class_)


def _dot(
    line: Line,
    step: float,
    value: float,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
    write: Callable[[float], str],
    radius: float,
) -> Markup:
    title = tag("title", f"{line.name}, step {count(int(step))}: {write(value)}")
    return tag("circle", title, cx=x_of(step), cy=y_of(value), r=radius, class_=f"dot k-{line.colour}")


def _smoothed(points: Points) -> Points:
    """The mean of each point and those before it, a tenth of the curve at most."""
    reach = max(2, len(points) // 10)
    means = []
    for place, (step, _) in enumerate(points):
        near = points[max(0, place + 1 - reach) : place + 1]
        means.append((step, math.fsum(value for _, value in near) / len(near)))
    return means


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers around all values."""
    if high <= low:
        pad = abs(high) * 0.1 or 1.0
        low, high = (0.0 if low == 0 else low - pad), high + pad
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, max(last, first + 1) + 1)]


def _whole_ticks(first: float, last: float) -> list[int]:
    """Round whole numbers within the axis."""
    step = max(1, math.ceil(_ticks(0.0, last - first)[1]))
    return list(range(math.ceil(first / step) * step, int(last) + 1, step))


def short(value: float) -> str:
    """A number for people: three digits, 1.2k, 3e-05."""
    size = abs(value)
    if size and size < 1e-3:
        digits, _, power = f"{value:.2g}".partition("e")
        return f"{digits}e{int(power)}" if power else digits
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"
