"""What the class report says, as records that a template writes down.

What it is: the numbers of `records.py`, counted, and each plot with its table. What it
is not: HTML; what students wrote is here as it is, and the template escapes it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from jaxgrader.drawings import Drawing, shortened
from jaxgrader.reporting import plots, resources
from jaxgrader.reporting.mistakes import Mistake, Verdict, find_mistakes
from jaxgrader.reporting.pieces import (
    Chart,
    Row,
    Said,
    Table,
    distribution,
    duration,
    number,
)
from jaxgrader.reporting.plots import Spread
from jaxgrader.reporting.records import NOT_SUBMITTED, WORST, Records
from jaxgrader.reporting.resources import MEASURES
from jaxgrader.reporting.structure import (
    AS_ASKED,
    FINDINGS,
    finding,
    judges_structure,
)
from jaxgrader.results import Outcome
from jaxgrader.store import State


@dataclass(frozen=True)
class Section:
    """What is said of one assignment."""

    slug: str
    name: str
    facts: list[tuple[str, str]]
    charts: list[Chart]
    mistakes: Table | None
    more_mistakes: Table | None
    structure: Table | None
    outliers: list[Table]


@dataclass(frozen=True)
class Contents:
    """The whole report."""

    course: str
    made: str
    anonymous: bool
    facts: list[tuple[str, str]]
    charts: list[Chart]
    sections: list[Section]


@dataclass(frozen=True)
class Voice:
    """How the report speaks of students: by their names, or so that nobody is known."""

    anonymous: bool = False
    #: student id -> what the report calls them.
    name: Callable[[str], str] = str
    #: The mistakes as they may be told.
    tell: Callable[[list[Mistake]], list[Mistake]] = field(default=lambda found: found)


def contents(records: Records, voice: Voice, course: str, made: str) -> Contents:
    """Return the report on some records."""
    submissions = records.submissions.with_columns(graded=GRADED)
    sections = [
        Report(records, submissions, name, f"a{number}", voice).section()
        for number, name in enumerate(records.assignments, start=1)
    ]
    charts = [whole_class(submissions)] if len(submissions) else []
    if len(sections) > 1:
        charts.insert(0, comparison(submissions, sections))
    there = submissions.filter(pl.col("state") != NOT_SUBMITTED)
    waiting = there.filter(pl.col("needs_manual_grade"))
    facts = [
        ("students", f"{submissions['student_id'].n_unique():,}"),
        ("assignments", str(len(sections))),
        ("submissions", f"{len(there):,}"),
        ("graded", f"{there['graded'].sum():,}"),
        ("wait for a human", f"{len(waiting):,}"),
        ("late", f"{(there['late_seconds'] > 0).sum():,}"),
    ]
    return Contents(course, made, voice.anonymous, facts, charts, sections)


#: What could not be read, or was not graded yet, says nothing of anybody's skill.
GRADED = pl.col("outcome").is_not_null() | pl.col("state").is_in(
    [State.GRADED.value, State.STALE.value, State.MANUAL.value]
)


class Report:
    """One assignment, from its records to its section."""

    def __init__(
        self,
        records: Records,
        submissions: pl.DataFrame,
        name: str,
        slug: str,
        voice: Voice,
    ) -> None:
        mine = pl.col("assignment") == name
        self.name, self.slug, self.voice = name, slug, voice
        self.submissions = submissions.filter(mine)
        self.graded = self.submissions.filter("graded")
        keys = self.graded.select("student_id")
        self.notebooks = records.notebooks.filter(mine).join(keys, on="student_id")
        self.cells = records.cells.filter(mine).join(keys, on="student_id")
        #: Cells that were judged by running; without a record, the score tells.
        whole = pl.col("auto_score") >= pl.col("max_score")
        said = pl.when(whole).then(pl.lit("passed")).otherwise(pl.lit("failed"))
        ran = (pl.col("cell_type") == "code") & pl.col("auto_score").is_not_null()
        self.tests = self.cells.with_columns(
            outcome=pl.coalesce("outcome", pl.when(ran).then(said))
        ).filter(pl.col("outcome").is_not_null())
        self.sources = records.sources.filter(mine)

    def section(self) -> Section:
        """Return what there is to say."""
        measures = [each for each in MEASURES if len(each.of(self.graded))]
        charts: list[Chart | None] = [
            *self.scores(),
            self.outcomes(),
            self.arrivals(),
            *(
                resources.plot(measure, self.graded, self.slug, self.name)
                for measure in measures
            ),
        ]
        far = [
            resources.outliers(measure, self.graded, self.name, self.voice.name)
            for measure in measures
        ]
        often, rare = self.mistakes()
        return Section(
            self.slug,
            self.name,
            self.facts(),
            [chart for chart in charts if chart is not None],
            often,
            rare,
            self.structure(),
            [table for table in far if table is not None],
        )

    def people(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return students by their names."""
        return tuple(sorted(map(self.voice.name, ids), key=str.casefold))

    def facts(self) -> list[tuple[str, str]]:
        """Return the numbers of the section's head."""
        there = self.submissions.filter(pl.col("state") != NOT_SUBMITTED)
        score, of = self.graded["score"], self.submissions["max_score"].max()
        failed = there.filter(pl.col("state") == State.FAILED.value)
        facts = [
            ("submitted", f"{len(there)} of {len(self.submissions)}"),
            ("graded", str(len(self.graded))),
            ("mean", f"{number(score.mean())} of {number(of)}"),
            ("median", f"{number(score.median())} of {number(of)}"),
            ("late", str((there["late_seconds"] > 0).sum())),
        ]
        if len(failed):
            facts.append(("could not be read", str(len(failed))))
        return facts

    def scores(self) -> list[Chart]:
        """Return how scores are distributed: of the whole, then of each notebook."""
        if not len(self.graded):
            return []
        what, name = f"Scores in {self.name}", f"{self.slug}-scores"
        found = [distribution(name, "Scores", what, percent(self.graded))]
        books = self.notebooks["notebook"].unique().sort().to_list()
        for position, book in enumerate(books if len(books) > 1 else []):
            part = self.notebooks.filter(pl.col("notebook") == book)
            title, what = f"Scores of {book}", f"Scores of {book} in {self.name}"
            found.append(distribution(f"{name}-{position}", title, what, percent(part)))
        return found

    def outcomes(self) -> Chart | None:
        """Return how the tests ended, the hardest first."""
        found = self.by_test()
        if not found:
            return None
        rows = []
        used = [o for o in WORST if any(counts.get(o) for _, counts in found)]
        for name, counts in found:
            each = [str(counts.get(outcome, 0)) for outcome in used]
            rows.append(Row((name, f"{passed(counts):.0f} %", *each)))
        hardest, counts = found[0]
        drawing = Drawing(
            f"{self.slug}-tests",
            "Pass rate of each test, hardest first",
            f"{len(found)} tests. The hardest is {hardest}: {passed(counts):.0f} % of "
            f"{sum(counts.values())} submissions passed it.",
        )
        svg = plots.shares(
            drawing,
            [name for name, _ in found],
            [[(o, counts[o]) for o in used if o in counts] for _, counts in found],
            [f"{passed(counts):.0f} %" for _, counts in found],
        )
        columns = ("test", "passed", *used)
        numbers = frozenset(range(1, len(columns)))
        table = Table(f"Tests and outcomes in {self.name}", columns, rows, numbers)
        return Chart(drawing.title, svg, table, key=tuple(used))

    def by_test(self) -> list[tuple[str, dict[str, int]]]:
        """Return each test with how many submissions ended how."""
        keys = ["notebook", "grade_id"]
        several = self.notebooks["notebook"].n_unique() > 1
        counts: dict[str, dict[str, int]] = {}
        for book, name, outcome, count in (
            self.tests.group_by(*keys, "outcome").len().sort(*keys, "outcome").rows()
        ):
            shown = f"{book}: {name}" if several else name
            counts.setdefault(shown, {})[outcome] = count
        return sorted(counts.items(), key=lambda item: passed(item[1]))

    def mistakes(self) -> tuple[Table | None, Table | None]:
        """Return the mistakes that several students made, and those of one each."""
        wrong = self.tests.filter(pl.col("outcome") != Outcome.PASSED.value)
        columns = ["student_id", "grade_id", "outcome", "sentence"]
        said = wrong.select(columns).with_columns(pl.col("sentence").fill_null(""))
        verdicts = [Verdict(*row) for row in said.iter_rows()]
        unread = self.submissions.filter(pl.col("state") == State.FAILED.value)
        verdicts += [
            Verdict(student, "", UNREAD, sentence or "")
            for student, sentence in unread.select("student_id", "sentence").rows()
        ]
        found = self.voice.tell(find_mistakes(verdicts))
        often = [each for each in found if each.count > 1]
        rare = [each for each in found if each.count == 1]
        caption = f"Mistakes of several students in {self.name}"
        other = f"Mistakes of one student each in {self.name}"
        return self.mistake_table(caption, often), self.mistake_table(other, rare)

    def mistake_table(self, caption: str, found: list[Mistake]) -> Table | None:
        """Return some mistakes, each with an example and the students behind it."""
        rows = [
            Row(
                (
                    str(each.count),
                    each.outcome,
                    Said(shortened(each.example, LONGEST)),
                ),
                ", ".join(sorted(filter(None, each.grade_ids))),
                self.people(each.students),
            )
            for each in found[:MOST]
        ]
        if len(found) > MOST:
            caption += f": the first {MOST} of {len(found)}"
        columns = ("students", "outcome", "for example")
        return Table(caption, columns, rows, frozenset({0})) if rows else None

    def structure(self) -> Table | None:
        """Return what the tests of the programs' structure found, and of whom."""
        judging = [
            grade_id
            for grade_id, source in self.sources.select("grade_id", "source").rows()
            if judges_structure(source)
        ]
        tests = self.tests.filter(pl.col("grade_id").is_in(judging))
        found: dict[str, dict[str, None]] = {}
        for student, outcome, sentence in tests.select(
            "student_id", "outcome", "sentence"
        ).iter_rows():
            found.setdefault(finding(outcome, sentence), {})[student] = None
        total = tests["student_id"].n_unique()
        rows = [
            Row(
                (
                    str(len(found[name])),
                    f"{100 * len(found[name]) / total:.0f} %",
                    name,
                ),
                people=() if name == AS_ASKED else self.people(found[name]),
            )
            for name in FINDINGS
            if name in found
        ]
        columns = ("students", "share", "the program has")
        caption = f"What {', '.join(sorted(judging))} found in {self.name}"
        return Table(caption, columns, rows, frozenset({0, 1})) if rows else None

    def arrivals(self) -> Chart | None:
        """Return when submissions came, against the deadline."""
        after = (pl.col("timestamp") - pl.col("duedate")).dt.total_seconds() / 3600
        there = self.submissions.with_columns(hours=after).drop_nulls("hours")
        if not len(there):
            return None
        hours, late = there["hours"], there["late_seconds"]
        rows = []
        for said, low, high in ARRIVALS:
            found = there.filter(pl.col("hours") > low, pl.col("hours") <= high)
            count, share = len(found), f"{100 * len(found) / len(there):.0f} %"
            who = self.people(found["student_id"]) if low >= 0 else ()
            rows.append(Row((str(count), share, said), people=who))
        columns = ("submissions", "share", "against the deadline")
        caption = f"When submissions of {self.name} came"
        table = Table(caption, columns, rows, frozenset({0, 1}))
        worst = late.max()
        drawing = Drawing(
            f"{self.slug}-arrivals",
            "Submissions over time",
            f"{len(hours)} submissions; {(hours > 0).sum()} after the deadline.",
        )
        extended = int((hours > 0).sum()) - int((late > 0).sum())
        notes = [f"The last came {duration(worst)} late."] if worst else []
        if extended > 0:
            notes.append(f"{extended} after it, and in time: they had an extension.")
        return Chart(
            drawing.title,
            plots.arrivals(drawing, hours.to_list()),
            table,
            " ".join(notes),
        )


def passed(counts: dict[str, int]) -> float:
    """Return the percentage of those who passed."""
    return 100 * counts.get(Outcome.PASSED, 0) / max(1, sum(counts.values()))


def percent(frame: pl.DataFrame) -> pl.Series:
    """Return scores as percentages of what could be had."""
    of = pl.col("max_score")
    share = pl.when(of > 0).then(100 * pl.col("score") / of).otherwise(0.0)
    return frame.select(share.alias("share"))["share"]


def whole_class(submissions: pl.DataFrame) -> Chart:
    """Return how the class stands over all assignments of the report."""
    totals = (
        submissions.group_by("student_id")
        .agg(pl.col("score", "max_score").sum(), there=pl.col("graded").any())
        .filter("there")
    )
    return distribution("class", TOGETHER, TOGETHER, percent(totals))


def comparison(submissions: pl.DataFrame, sections: Sequence[Section]) -> Chart:
    """Return the assignments beside each other."""
    rows = []
    spreads = []
    for section in sections:
        mine = submissions.filter(pl.col("assignment") == section.name)
        graded = mine.filter("graded")
        shares = percent(graded)
        five = [float(shares.quantile(q) or 0.0) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
        if len(shares):
            spreads.append(Spread(section.name, *five))
        there = (mine["state"] != NOT_SUBMITTED).sum()
        full = int((shares >= 100).sum())
        rows.append(
            Row(
                (
                    section.name,
                    str(there),
                    str(len(graded)),
                    f"{number(shares.mean(), 0)} %",
                    *(f"{value:.0f} %" for value in five[1:4]),
                    f"{100 * full / max(1, len(shares)):.0f} %",
                    str((mine["late_seconds"] > 0).sum()),
                    f"{number(graded['seconds'].median())} s",
                )
            )
        )
    columns = (
        "assignment",
        "submitted",
        "graded",
        "mean",
        "lower quarter",
        "median",
        "upper quarter",
        "full marks",
        "late",
        "median time",
    )
    drawing = Drawing(
        "comparison",
        "The assignments beside each other",
        "Scores in per cent of the points: the bar holds the middle half of the class, "
        "the line all but a tenth.",
    )
    table = Table(drawing.title, columns, rows, frozenset(range(1, len(columns))))
    svg = plots.spreads(drawing, spreads)
    return Chart(drawing.title, svg, table, drawing.description)


#: Of the mistakes of an assignment, and of a sentence, what is shown at most.
MOST, LONGEST = 40, 500
TOGETHER = "The class: all points together"
UNREAD = "could not be read"
DAY, EVER = 24.0, float("inf")
ARRIVALS = (
    ("more than three days before", -EVER, -3 * DAY),
    ("one to three days before", -3 * DAY, -DAY),
    ("on the last day", -DAY, -1.0),
    ("in the last hour", -1.0, 0.0),
    ("late by an hour at most", 0.0, 1.0),
    ("late by a day at most", 1.0, DAY),
    ("late by more than a day", DAY, EVER),
)
