"""The pieces of the class report: tables, and plots with a table beside each."""

from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from jaxgrader.drawings import Drawing
from jaxgrader.reporting import plots


@dataclass(frozen=True)
class Said:
    """What a program said, to be shown as it is."""

    text: str


Cell = str | Said


@dataclass(frozen=True)
class Row:
    """A row of a table, and below it a note, and the students by their names."""

    cells: tuple[Cell, ...]
    note: str = ""
    people: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table; `numbers` are the places of the columns that hold numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: list[Row]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    """A plot, and the table beside it."""

    title: str
    svg: Markup
    table: Table
    note: str = ""
    #: The roles of colours, where the reader needs to be told.
    key: tuple[str, ...] = ()


def distribution(name: str, title: str, caption: str, shares: pl.Series) -> Chart:
    """Return how many scores lie in each tenth; full marks stand alone."""
    edges = list(range(0, 100, 10))
    counts = [
        int(((shares >= low) & (shares < low + 10)).sum())
        if low
        else int((shares < 10).sum())
        for low in edges
    ]
    full = int((shares >= 100).sum())
    labels = [f"{low}" for low in edges] + ["100"]
    middle, mean = shares.median(), shares.mean()
    described = (
        f"{len(shares)} scores in per cent of the points: mean "
        f"{number(mean, 1)}, median {number(middle, 1)}; {full} with full marks."
    )
    drawing = Drawing(name, title, described)
    svg = plots.columns(drawing, labels, [*counts, full], "full")
    rows = [
        Row((f"{low} % to {low + 10} %", str(count)))
        for low, count in zip(edges, counts, strict=True)
    ]
    rows.append(Row(("100 %", str(full))))
    table = Table(caption, ("score", "students"), rows, frozenset({1}))
    return Chart(title, svg, table, described)


def number(value: object, digits: int = 2) -> str:
    """Return a number as people write it, "?" for none."""
    if not isinstance(value, float):
        return "?"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def duration(seconds: object) -> str:
    """Return a time in its largest unit."""
    assert isinstance(seconds, int | float)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
