"""Charts as inline SVG: no script, colours from the page's style, a title for those who cannot see them.

Lengths in per cent let a bar fill whatever width it is given; charts with axes have a fixed viewBox of about the
width of a phone, so that their letters stay readable there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bgeprep.report.markup import Markup, count, tag

__all__ = ["bar", "columns", "curve", "difference", "lengths", "stack", "whisker"]


def _svg(title: str, *children: Markup, class_: str, view: tuple[int, int] | None = None) -> Markup:
    box = f"0 0 {view[0]} {view[1]}" if view else None
    return tag("svg", tag("title", title), *children, class_=class_, role="img", viewBox=box)


def _rect(x: float, y: float, width: float, height: float, class_: str, title: str | None = None) -> Markup:
    return tag("rect", tag("title", title) if title else None, x=x, y=y, width=width, height=height, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _label(x: float, y: float, words: str, anchor: str = "middle", class_: str | None = None) -> Markup:
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def stack(title: str, segments: Sequence[tuple[str, str, int]], class_: str = "stack") -> Markup:
    """One bar cut into segments of (family, words, count)."""
    total = max(sum(number for _, _, number in segments), 1)
    pieces, start = [], 0.0
    for family, words, number in segments:
        width = 100 * number / total
        pieces.append(
            tag(
                "rect",
                tag("title", f"{words}: {count(number)}"),
                x=f"{start:.3f}%",
                y=0,
                width=f"{width:.3f}%",
                height="100%",
                class_=f"f-{family}",
            )
        )
        start += width
    return _svg(title, *pieces, class_=class_)


def bar(title: str, part: float, family: str) -> Markup:
    """A bar that fills `part` (0 to 1) of its cell."""
    return _svg(
        title,
        tag("rect", x=0, y=0, width=f"{100 * part:.3f}%", height="100%", class_=f"f-{family}"),
        class_="bar",
    )


def lengths(title: str, counts: Sequence[int], edges: Sequence[int], median: int) -> Markup:
    """A small histogram over half octaves, drawn as steps, with the median marked."""
    width, height, last = 168, 40, len(counts)
    most = max(*counts, 1)
    step = width / last
    path = [f"M0 {height}"]
    for place, number in enumerate(counts):
        top = height - (height - 3) * number / most
        path.append(f"L{place * step:.1f} {top:.1f}L{(place + 1) * step:.1f} {top:.1f}")
    path.append(f"L{width} {height}Z")
    # A number below every octave where there are few, else below every second or third.
    octaves = 1 if last <= 10 else 2 if last <= 18 else 3
    written = {4 << power for power in range(0, 16, octaves)}
    ticks: list[Markup] = []
    for place, edge in enumerate(edges):
        if edge in written and 0 < place < last - 1:
            ticks.append(_line(place * step, height, place * step, height + 3, "axis"))
            ticks.append(_label(place * step, height + 14, _short(edge)))
    middle = _place(median, edges) * step
    return _svg(
        title,
        tag("path", d="".join(path), class_="area"),
        _line(0, height, width, height, "axis"),
        *ticks,
        _line(middle, 0, middle, height, "median"),
        class_="lengths",
        view=(width, height + 16),
    )


def _place(length: int, edges: Sequence[int]) -> float:
    """Where a length lies on the axis of half octaves, in bins."""
    return min(max(2 * math.log2(max(length, 1) / edges[0]), 0.0), float(len(edges)))


def _short(number: int) -> str:
    return f"{number // 1024}k" if number >= 1024 else str(number)


def curve(title: str, series: Sequence[tuple[str, Sequence[tuple[int, int]]]], x_title: str, y_title: str) -> Markup:
    """Points over logarithmic axes, x in powers of two and y in powers of ten, joined within each (class, points)."""
    width, height, left, top, bottom = 440, 270, 52, 12, 44
    points = [point for _, line in series for point in line if point[1] > 0]
    x_most = max([math.ceil(math.log2(max(x, 2))) for x, _ in points] + [3])
    y_most = max([math.ceil(math.log10(max(y, 1))) for _, y in points] + [1])

    def x_of(value: float) -> float:
        return left + 10 + (width - left - 24) * (math.log2(value) - 1) / max(x_most - 1, 1)

    def y_of(value: float) -> float:
        return height - bottom - (height - bottom - top) * math.log10(value) / y_most

    drawn: list[Markup] = []
    for power in range(y_most + 1):
        drawn.append(_line(left, y_of(10**power), width - 6, y_of(10**power), "grid" if power else "axis"))
        drawn.append(_label(left - 7, y_of(10**power) + 4, count(10**power), "end"))
    every = 1 + (x_most - 1) // 8
    powers = range(1, x_most + 1, every)
    drawn += [_label(x_of(2**power), height - bottom + 17, count(2**power)) for power in powers]
    drawn.append(_label((left + width) / 2, height - 6, x_title, class_="axis-title"))
    turned = tag(
        "text", y_title, x=0, y=0, text_anchor="middle", class_="axis-title",
        transform=f"translate(11 {(height - bottom + top) / 2:.0f}) rotate(-90)",
    )  # fmt: skip
    drawn.append(turned)
    for class_, line in series:
        shown = [(x_of(x), y_of(y), x, y) for x, y in line if y > 0]
        path = "".join(f"{'L' if place else 'M'}{x:.1f} {y:.1f}" for place, (x, y, _, _) in enumerate(shown))
        drawn.append(tag("path", d=path or "M0 0", class_=f"line {class_}"))
        drawn += [
            tag(
                "circle",
                tag("title", f"{count(y)} of {count(x)} texts or more"),
                cx=at,
                cy=up,
                r=4,
                class_=f"dot {class_}",
            )
            for at, up, x, y in shown
        ]
    return _svg(title, *drawn, class_="chart", view=(width, height))


def columns(title: str, bins: Sequence[tuple[float, int, str]], x_title: str, threshold: float | None = None) -> Markup:
    """A histogram of (low edge, count, family); a threshold is drawn as a line across it."""
    width, height, left, top, bottom = 440, 230, 22, 36, 44
    most = max(max((number for _, number, _ in bins), default=1), 1)
    step = (width - 2 * left) / max(len(bins), 1)
    base = height - bottom
    drawn = [_line(left, base, width - left, base, "axis")]
    for place, (low, number, family) in enumerate(bins):
        tall = (base - top) * number / most
        drawn.append(
            _rect(
                left + place * step + 1,
                base - tall,
                max(step - 2, 1),
                tall,
                f"f-{family}",
                f"from {low:g}: {count(number)}",
            )
        )
    every = max(math.ceil(len(bins) / 8), 1)
    drawn += [
        _label(left + place * step, base + 16, f"{low:.2f}".rstrip("0").rstrip("."))
        for place, (low, _, _) in enumerate(bins)
        if place % every == 0
    ]
    drawn.append(_label(width / 2, height - 6, x_title, class_="axis-title"))
    if threshold is not None and len(bins) > 1:
        each = bins[1][0] - bins[0][0]
        at = left + step * min(max((threshold - bins[0][0]) / each, 0), len(bins))
        drawn.append(_line(at, top - 20, at, base, "threshold"))
        end = at > width * 0.7
        drawn.append(_label(at + (-5 if end else 5), top - 10, f"threshold {threshold:g}", "end" if end else "start"))
    return _svg(title, *drawn, class_="chart", view=(width, height))


def whisker(title: str, rate: float, low: float, high: float, floor: float, family: str) -> Markup:
    """A rate with its interval on an axis from `floor` to 1."""

    def at(value: float) -> str:
        return f"{2 + 96 * (max(value, floor) - floor) / (1 - floor):.2f}%"

    return _svg(
        title,
        tag("line", x1="2%", x2="98%", y1="50%", y2="50%", class_="grid"),
        tag("line", x1=at(low), x2=at(high), y1="50%", y2="50%", class_=f"interval s-{family}"),
        tag("circle", cx=at(rate), cy="50%", r=5, class_=f"dot s-{family}"),
        class_="whisker",
    )


def difference(title: str, value: float, low: float, high: float, reach: float, family: str) -> Markup:
    """A difference with its interval on an axis from `-reach` to `reach`, 0 marked in the middle."""

    def at(number: float) -> str:
        return f"{50 + 48 * max(min(number / reach, 1.0), -1.0):.2f}%"

    return _svg(
        title,
        tag("line", x1="2%", x2="98%", y1="50%", y2="50%", class_="grid"),
        tag("line", x1="50%", x2="50%", y1=0, y2="100%", class_="axis"),
        tag("line", x1=at(low), x2=at(high), y1="50%", y2="50%", class_=f"interval k-{family}"),
        tag("circle", cx=at(value), cy="50%", r=5, class_=f"dot k-{family}"),
        class_="whisker",
    )
