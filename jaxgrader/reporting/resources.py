"""What submissions took, time and memory, and which took far more than the rest."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from jaxgrader.drawings import Drawing
from jaxgrader.reporting import plots
from jaxgrader.reporting.pieces import Chart, Row, Table, number

#: Outliers that are named; submissions below which nothing is far from the rest.
NAMED, FEW = 10, 4


@dataclass(frozen=True)
class Measure:
    """A column of the submissions, and how people count it."""

    column: str
    title: str
    unit: str
    #: How much of the column one unit is, and where a plot's columns begin, in units.
    size: float
    edges: tuple[int, ...]

    def of(self, submissions: pl.DataFrame) -> pl.DataFrame:
        """Return the submissions of which it is known, in units."""
        values = pl.col(self.column) / self.size
        return submissions.filter(pl.col(self.column) > 0).select(
            "student_id", "score", value=values
        )


MEASURES = (
    Measure(
        "seconds", "Time to grade", "s", 1, (0, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120)
    ),
    Measure(
        "memory",
        "Memory of the kernel",
        "MB",
        1e6,
        (0, 150, 200, 250, 300, 400, 600, 900, 2000),
    ),
)


def plot(measure: Measure, submissions: pl.DataFrame, slug: str, name: str) -> Chart:
    """Return how a measure is distributed over an assignment's submissions."""
    values = measure.of(submissions)["value"]
    unit, edges = measure.unit, measure.edges
    counts = [
        int(((values >= low) & (values < high)).sum())
        for low, high in zip(edges, (*edges[1:], float("inf")), strict=True)
    ]
    middle, most = number(values.median(), 1), number(values.max(), 1)
    described = f"Median {middle} {unit}, most {most} {unit}."
    title = f"{measure.title} ({unit})"
    drawing = Drawing(f"{slug}-{measure.column}", title, described)
    labels = [*(str(edge) for edge in edges[:-1]), f"{edges[-1]}+"]
    words = [f"{a} to {b} {unit}" for a, b in itertools.pairwise(edges)]
    words.append(f"{edges[-1]} {unit} and more")
    rows = [Row((word, str(count))) for word, count in zip(words, counts, strict=True)]
    caption = f"{title}, {name}"
    table = Table(caption, (measure.title, "submissions"), rows, frozenset({1}))
    return Chart(title, plots.columns(drawing, labels, counts), table, described)


def outliers(
    measure: Measure, submissions: pl.DataFrame, name: str, who: Callable[[str], str]
) -> Table | None:
    """Return the submissions that took far more than the rest, by name."""
    known = measure.of(submissions)
    if len(known) < FEW:
        return None
    lower, upper = (known["value"].quantile(share) or 0.0 for share in (0.25, 0.75))
    # Where all take the same, a little more is nothing to look at.
    fence = upper + 3 * max(upper - lower, 0.1 * upper)
    far = known.filter(pl.col("value") > fence).sort("value", descending=True)
    if not len(far):
        return None
    rows = [
        Row((who(student), f"{value:.1f} {measure.unit}", number(score)))
        for student, score, value in far.head(NAMED).rows()
    ]
    caption = (
        f"{measure.title}, {name}: {len(far)} above {fence:.1f} {measure.unit} (the "
        "upper quartile, and three times the distance of the quartiles)"
    )
    columns = ("student", measure.title.lower(), "score")
    return Table(caption, columns, rows, frozenset({1, 2}))
