"""The loss curve as SVG: the loss of every modality, raw and smoothed, readable on light and on dark pages."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

Points = list[tuple[int, float]]  # step, loss; in the order of the steps

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 30, 40, 48  # margins around the plot
MOST_STRETCHES = 300  # of a drawn line; each shows its lowest and its highest value, so that no spike is lost
SMOOTHED_OVER = 0.03  # of the steps, at least so many:
FEWEST_SMOOTHED = 5
TICKS = 6
COLOURS = ("#3b82f6", "#e07b1a", "#2f9e62")  # legible on white and on black
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .grid { stroke: #8b949e; stroke-opacity: .3 }
  .axis { stroke: #8b949e }
  .raw { fill: none; stroke-width: 1; stroke-opacity: .55 }
  .smoothed { fill: none; stroke-width: 2.5; stroke-linejoin: round }
  .ground { fill: #fff }
  @media (prefers-color-scheme: dark) { text { fill: #b1bac4 } .ground { fill: #0d1117 } }
"""


def loss_curve(losses: Mapping[str, Points]) -> str:
    """The picture of all modalities; one without a finite value is left out."""
    drawn = {name: finite for name, points in losses.items() if (finite := [p for p in points if math.isfinite(p[1])])}
    values = [value for points in drawn.values() for _, value in points]
    steps = [step for points in drawn.values() for step, _ in points]
    across = Axis(min([*steps, 1]), max([*steps, 2]), LEFT, WIDTH - RIGHT)
    up = Axis(min([0.0, *values]), 1.05 * (max(values, default=1.0) or 1.0), HEIGHT - BOTTOM, TOP)
    body = [*_grid(across, up), *_legend(list(drawn))]
    for (_, points), colour in zip(drawn.items(), COLOURS, strict=False):
        body.append(_line(thinned(points), across, up, "raw", colour))
        body.append(_line(thinned(smoothed(points)), across, up, "smoothed", colour))
    if not drawn:
        body.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no finite loss yet</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="Loss over optimisation steps"><style>{STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%" rx="6"/>{"".join(body)}</svg>\n'
    )


def numbered(losses: Mapping[str, Sequence[float | None]]) -> dict[str, Points]:
    """Losses of a whole training with their steps, the first of which is 1; None is left out."""
    return {
        name: [(step, value) for step, value in enumerate(values, 1) if value is not None]
        for name, values in losses.items()
    }


def smoothed(points: Points) -> Points:
    """Means over a window around each step; cut off at both ends, so that the line reaches as far as the raw one."""
    reach = max(FEWEST_SMOOTHED, round(len(points) * SMOOTHED_OVER)) // 2
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    found = []
    for index, (step, _) in enumerate(points):
        start, end = max(0, index - reach), min(len(points), index + reach + 1)
        found.append((step, (sums[end] - sums[start]) / (end - start)))
    return found


def thinned(points: Points) -> Points:
    """At most so many points that a picture can show; of each stretch the lowest and the highest stay."""
    if len(points) <= 2 * MOST_STRETCHES:
        return points
    edges = [round(index * len(points) / MOST_STRETCHES) for index in range(MOST_STRETCHES + 1)]
    stretches = [points[start:end] for start, end in pairwise(edges)]
    extremes = [{min(each, key=_value), max(each, key=_value)} for each in stretches]
    inner = {point for each in extremes for point in each}
    return sorted({points[0], *inner, points[-1]})


def ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Round numbers between two bounds, 1, 2 or 5 times a power of ten apart."""
    raw = max(high - low, 1e-12) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


class Axis:
    """The range of an axis, and its place in the picture."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / max(self.high - self.low, 1e-12)
        return self.start + share * (self.end - self.start)


def _value(point: tuple[int, float]) -> float:
    return point[1]


def _line(points: Points, across: Axis, up: Axis, kind: str, colour: str) -> str:
    placed = " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in points)
    return f'<polyline class="{kind}" stroke="{colour}" points="{placed}"/>'


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    """Grid lines with their numbers, and what both axes show."""
    left, right, top, bottom = across.start, across.end, up.end, up.start
    for value in ticks(up.low, up.high):
        y = f"{up(value):.1f}"
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{left - 8}" y="{y}" dy="4" text-anchor="end">{value:g}</text>'
    whole = [value for value in ticks(across.low, across.high) if value == int(value)]
    for value in whole:
        yield f'<text x="{across(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:,.0f}</text>'
    yield f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text x="{(left + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">optimisation step</text>'
    middle = (top + bottom) / 2
    yield (
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        "loss (mean squared error)</text>"
    )


def _legend(names: list[str]) -> Iterator[str]:
    """Colour and name of every modality, and which of its two lines is which."""
    x = float(LEFT)
    for name, colour in zip(names, COLOURS, strict=False):
        yield f'<line class="smoothed" stroke="{colour}" x1="{x}" x2="{x + 22}" y1="20" y2="20"/>'
        yield f'<text x="{x + 28}" y="24">{escape(name)}, smoothed</text>'
        x += 46 + 7 * len(f"{name}, smoothed")
        yield f'<line class="raw" stroke="{colour}" x1="{x}" x2="{x + 22}" y1="20" y2="20"/>'
        yield f'<text x="{x + 28}" y="24">each step</text>'
        x += 46 + 7 * len("each step")
