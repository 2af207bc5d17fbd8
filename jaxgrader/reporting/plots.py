"""The class report's plots, as SVG that is a part of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from jaxgrader.drawings import ROLES, Drawing, say, shortened


def columns(
    drawing: Drawing, labels: Sequence[str], counts: Sequence[int], last: str = "bar"
) -> Markup:
    """Draw counts as columns; `last` is the role of the last one."""
    figure, axes = drawing.start(150)
    places = range(len(labels))
    roles = ["bar"] * (len(labels) - 1) + [last]
    axes.bar(places, counts, width=0.86, color=[ROLES[role] for role in roles])
    most = max(counts, default=0)
    for place, count in zip(places, counts, strict=True):
        if count:
            say(axes, place, count + most * 0.02, str(count), ha="center", va="bottom")
    axes.set_ylim(0, max(1, most * 1.14))
    axes.set_yticks([])
    axes.set_xticks(places, labels, parse_math=False)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    return drawing.finish(figure)


def shares(
    drawing: Drawing,
    names: Sequence[str],
    parts: Sequence[Sequence[tuple[str, int]]],
    notes: Sequence[str],
) -> Markup:
    """Draw what each whole is made of, as (role, count); the names stand above."""
    figure, axes = drawing.start(8 + 34 * len(names), below=2)
    for row, (name, part, note) in enumerate(zip(names, parts, notes, strict=True)):
        total = sum(count for _, count in part) or 1
        left = 0.0
        axes.barh(row, 1, height=0.32, color=ROLES["none"])
        for role, count in part:
            width = count / total
            axes.barh(row, width, left=left, height=0.32, color=ROLES[role])
            left += width
        say(axes, 0, row - 0.27, shortened(name, 36), ha="left", va="bottom")
        say(axes, 1, row - 0.27, note, ha="right", va="bottom")
    axes.set_ylim(len(names) - 0.7, -0.75)
    axes.set_xlim(0, 1)
    axes.axis("off")
    return drawing.finish(figure)


@dataclass(frozen=True)
class Spread:
    """A distribution in five numbers: the quartiles, and all but a tenth of it."""

    name: str
    low: float
    lower: float
    median: float
    upper: float
    high: float


def spreads(drawing: Drawing, found: Sequence[Spread]) -> Markup:
    """Draw distributions of percentages, one below the other."""
    figure, axes = drawing.start(26 + 34 * len(found), left=10)
    for row, each in enumerate(found):
        axes.barh(row, 100, height=0.3, color=ROLES["none"])
        axes.plot([each.low, each.high], [row, row], color=ROLES["faint"], lw=1)
        width = max(0.8, each.upper - each.lower)
        axes.barh(row, width, left=each.lower, height=0.3, color=ROLES["bar"])
        middle = [each.median, each.median]
        axes.plot(middle, [row - 0.2, row + 0.2], color=ROLES["ink"], lw=2)
        say(axes, 0, row - 0.26, shortened(each.name, 30), ha="left", va="bottom")
        said = f"median {each.median:.0f} %"
        say(axes, 100, row - 0.26, said, ha="right", va="bottom")
    axes.set_ylim(len(found) - 0.6, -0.75)
    axes.set_xlim(-1, 101)
    axes.set_yticks([])
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"])
    return drawing.finish(figure)


def arrivals(drawing: Drawing, hours: Sequence[float]) -> Markup:
    """Draw how many submissions were there, by hours before (-) and after a deadline.

    What came more than a fortnight earlier stands at the left edge.
    """
    figure, axes = drawing.start(150, left=34)
    earliest = max(min(hours), -14 * 24.0)
    shown = sorted(max(hour, earliest) for hour in hours)
    latest = max(shown[-1], 0.0)
    room = max(1.0, (latest - earliest) * 0.06)
    places = [shown[0] - room, *shown, latest + room]
    counts = [0, *range(1, len(shown) + 1), len(shown)]
    if latest > 0:
        axes.axvspan(0, latest + room, color=ROLES["late"], alpha=0.14, lw=0)
    across = [place for place in places for _ in "ab"][1:]
    up = [count for count in counts for _ in "ab"][:-1]
    area = ([*across, across[-1], across[0]], [*up, 0, 0])
    axes.fill(*area, color=ROLES["bar"], alpha=0.25, lw=0)
    axes.plot(across, up, color=ROLES["bar"], lw=1.6)
    axes.axvline(0, color=ROLES["late"], lw=1.2, ls=(0, (3, 2)))
    early = earliest < -latest
    align = ("right", -0.015) if early else ("left", 0.015)
    place = align[1] * (places[-1] - places[0])
    say(axes, place, len(shown) * 1.07, "deadline", ha=align[0], va="bottom")
    axes.set_ylim(0, len(shown) * 1.22)
    axes.set_xlim(places[0], places[-1])
    axes.set_yticks([0, len(shown)])
    ticks = time_ticks(places[0], places[-1])
    axes.set_xticks(ticks, [time_label(hour) for hour in ticks])
    return drawing.finish(figure)


def time_ticks(first: float, last: float) -> list[float]:
    """Return round times between two, the deadline among them."""
    width = last - first
    steps = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 672, 2016, 8760)
    step = next((s for s in steps if width / s <= 6), width / 4)
    return [n * step for n in range(math.ceil(first / step), int(last // step) + 1)]


def time_label(hour: float) -> str:
    """Return a time against the deadline as people say it."""
    if hour == 0:
        return "0"
    size = abs(hour)
    text = (
        f"{size / 24:g} d"
        if size >= 24
        else f"{size:g} h"
        if size >= 1
        else f"{60 * size:g} min"
    )
    return f"{'−' if hour < 0 else '+'}{text}"  # noqa: RUF001
