"""Got and expected on a page: a small table, and a plot where there are many numbers.

What it is: what `comparisons.compared_in` recorded, made readable. The numbers may be a
student's; they are text here, and nothing of them is evaluated.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jaxgrader.drawings import ROLES, Drawing

#: Numbers that fit into a line. Where there are more, a plot shows them.
LINE = 8
#: Numbers that stand in one cell of a table.
FEW = 3
#: Numbers beyond it are drawn at the edge.
LARGE = 1e100


@dataclass(frozen=True)
class Row:
    """An entry of two arrays, or what else there is to compare."""

    name: str
    got: str
    expected: str
    differs: bool


@dataclass(frozen=True)
class Difference:
    """What a test got, beside what it expected."""

    caption: str
    first: str
    rows: list[Row]
    plot: Markup | None = None


def difference_of(compared: dict[str, Any], name: str) -> Difference:
    """Return what a check compared; `name` is the plot's, on its page."""
    got, expected = compared["got"], compared["expected"]
    where = f" {compared['place']}" if compared["place"] else ""
    if compared["wrong"] is None:
        rows = [
            Row("shape", shape(got), shape(expected), True),
            Row("first numbers", line(got), line(expected), False),
        ]
        return Difference(f"The shapes differ{where}", "", rows)
    caption = f"{compared['wrong']} of {compared['size']} numbers differ{where}"
    worst = [Row(named(index), a, b, True) for index, a, b in compared["rows"]]
    if compared["size"] <= LINE:
        return Difference(caption, "index", all_rows(compared, worst))
    if len(worst) < compared["wrong"]:
        caption += ", these the most"
    return Difference(caption, "index", worst, draw(compared, name, caption))


def all_rows(compared: dict[str, Any], worst: list[Row]) -> list[Row]:
    """Return the entries of a short array in their order."""
    lengths = compared["got"]["shape"]
    wrong = {row.name for row in worst}
    rows = []
    pairs = zip(
        compared["got"]["numbers"], compared["expected"]["numbers"], strict=True
    )
    for place, (a, b) in zip(np.ndindex(*lengths), pairs, strict=True):
        name = named(", ".join(map(str, place)))
        rows.append(Row(name, a, b, name in wrong))
    return rows


def named(index: str) -> str:
    """Return an index as Python writes it; a number alone has none."""
    return f"[{index}]" if index else "value"


def shape(side: dict[str, Any]) -> str:
    """Return a shape as Python writes it."""
    return str(tuple(side["shape"]))


def line(side: dict[str, Any]) -> str:
    """Return the first numbers of an array."""
    numbers = side["numbers"]
    return ", ".join(numbers[:FEW]) + (", …" if len(numbers) > FEW else "")


def draw(compared: dict[str, Any], name: str, caption: str) -> Markup | None:
    """Draw got against expected; None for what has no place on a line."""
    sides = [heights(compared[side]["numbers"]) for side in ("got", "expected")]
    if any(side is None or not np.isfinite(side).any() for side in sides):
        return None
    got, expected = sides
    start, size, count = compared["start"], compared["size"], len(got)
    which = "All" if count == size else f"Numbers {start} to {start + count - 1} of"
    said = f"{caption}. {which} {size}, row by row: expected as a line, got as points."
    places = np.arange(start, start + count)
    drawing = Drawing(name, "Got against expected", said)
    figure, axes = drawing.start(130, left=46)
    axes.plot(places, expected, color=ROLES["bar"], lw=1.4)
    axes.add_patch(dots(places, got, 2.6 if count > 40 else 4.4))
    axes.margins(x=0.03, y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return drawing.finish(figure)


def dots(places: Any, numbers: Any, size: float) -> PathPatch:
    """Return points as strokes without length: markers would need names on the page."""
    there = np.isfinite(numbers)
    ends = np.repeat(np.column_stack([places[there], numbers[there]]), 2, axis=0)
    codes = [Path.MOVETO, Path.LINETO] * int(there.sum())
    style: Any = {"capstyle": "round", "fill": False, "edgecolor": ROLES["late"]}
    return PathPatch(Path(ends, codes), linewidth=size, **style)


def heights(numbers: list[str]) -> Any:
    """Return numbers as floats, not a number for those that are none; None for complex
    ones."""
    found = []
    for text in numbers:
        try:
            number = float({"True": "1", "False": "0"}.get(text, text))
        except ValueError:
            return None
        finite = math.isfinite(number)
        found.append(max(-LARGE, min(LARGE, number)) if finite else math.nan)
    return np.array(found)
