"""Play the term week: `make demo`.

The story is `play`; it runs in a scratch folder and leaves the clone as it is. Every
step is an nbgrader command, typed by the person who would type it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from rich.console import Console
from rich.table import Table

from demo.commands import Command, Finished, command, run
from demo.students import CLASS, NOTEBOOKS, Student
from jaxgrader.converters import plug_in

CLONE = Path(__file__).parent.parent

#: Shorter than the course's own limits, so that the endless loop does not bore you.
LIMITS = ("--Limits.cell=15", "--Limits.wall=60")

#: A student's whole configuration: the course's name and where its exchange is.
STUDENT_CONFIG = """\
from jaxgrader.converters import plug_in

plug_in()
c = get_config()
c.CourseDirectory.course_id = "jax"
c.Exchange.root = "{exchange}"
c.Execute.kernel_name = "jax-sandboxed"
"""


@dataclass(frozen=True)
class Mark:
    """What one student got for one assignment; `score` is None without a verdict."""

    score: float | None
    phrase: str


@dataclass(frozen=True)
class Week:
    """The folders of a played week, and who got what: (student, assignment) -> Mark."""

    course: Path
    students: Path
    marks: dict[tuple[str, str], Mark]
    finished: list[Finished]


class Stage:
    """Runs the commands of one week, and tells the audience about them."""

    def __init__(self, scratch: Path, say: Callable[[str], None]) -> None:
        self.course = scratch / "course"
        self.students = scratch / "students"
        self.log = scratch / "week.log"
        self.say = say
        self.finished: list[Finished] = []
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("JAXGRADER", "JUPYTER"))
        }

    def act(self, title: str, commands: Iterable[Command]) -> None:
        """Run commands one after the other, and show how far they are."""
        self.say(title)
        with self.log.open("a") as log:

            def show(line: str) -> None:
                log.write(line + "\n")
                if match := re.search(r"Autograding .*/([^/]+)/([^/]+)/[^/]+$", line):
                    self.say(f"    {match[2]}  {match[1]}")

            self.finished += run(commands, env=self.env, show=show)

    def instructor(self, line: str, *more: str) -> Command:
        """Return what the instructor types."""
        return command(line, self.course, self.course, *more)

    def student(self, student: Student, line: str) -> Command:
        """Return what a student types."""
        home = self.students / student.name
        return command(line, home, home)


def play(
    scratch: Path, say: Callable[[str], None], students: Iterable[Student] = CLASS
) -> Week:
    """Play the week in `scratch`, an empty folder; `say` is told of each step."""
    stage = Stage(scratch, say)
    students = tuple(students)
    set_the_scene(stage, students)
    assignments = [a for a in NOTEBOOKS if any(a in s.work for s in students)]

    stage.act(
        "Monday. The instructor generates and releases the assignments.",
        each(
            stage.instructor,
            assignments,
            "generate_assignment {}",
            "release_assignment {}",
        ),
    )
    stage.act(
        "Tuesday. The students fetch them.",
        (stage.student(s, "fetch_assignment " + " ".join(s.work)) for s in students),
    )
    say("Wednesday. They work.")
    for student in students:
        say(f"    {student.name}: {student.story}")
        for assignment, work in student.work.items():
            folder = stage.students / student.name / assignment
            work(folder / f"{NOTEBOOKS[assignment]}.ipynb")
    stage.act(
        "Thursday. They validate and submit.",
        (c for s in students if not s.late for c in handing_in(stage, s)),
    )
    deadline = f"--duedate={datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    stage.act(
        "Friday. The deadline passes; one comes late.",
        [
            *(
                stage.instructor(f"db assignment add {a}", deadline)
                for a in assignments
            ),
            *(c for s in students if s.late for c in handing_in(stage, s)),
        ],
    )
    stage.act(
        "Saturday. The instructor collects and autogrades the class.",
        [
            *each(stage.instructor, assignments, "collect {} " + SAME_OWNER),
            *(stage.instructor(f"autograde {a}", *LIMITS) for a in assignments),
        ],
    )
    stage.act(
        "Sunday. Feedback goes back, the grades are exported.",
        [
            *each(
                stage.instructor,
                assignments,
                "generate_feedback {}",
                "release_feedback {}",
            ),
            stage.instructor("export"),
            *(stage.student(s, "fetch_feedback " + " ".join(s.work)) for s in students),
        ],
    )
    marks = dict(read_marks(stage, students))
    return Week(stage.course, stage.students, marks, stage.finished)


#: All students of the demo are one Unix user; on a real machine the check stays on.
SAME_OWNER = "--ExchangeCollect.check_owner=False"


def each(
    person: Callable[[str], Command], assignments: list[str], *lines: str
) -> Iterator[Command]:
    """Yield the commands for every assignment in turn."""
    for assignment in assignments:
        for line in lines:
            yield person(line.format(assignment))


def set_the_scene(stage: Stage, students: Iterable[Student]) -> None:
    """Copy the course, and give each student a home."""
    stage.course.mkdir(parents=True)
    shutil.copy(CLONE / "nbgrader_config.py", stage.course)
    shutil.copytree(CLONE / "source", stage.course / "source")
    for student in students:
        config = stage.students / student.name / ".jupyter" / "nbgrader_config.py"
        config.parent.mkdir(parents=True)
        config.write_text(STUDENT_CONFIG.format(exchange=stage.course / "exchange"))


def handing_in(stage: Stage, student: Student) -> Iterator[Command]:
    """Yield the commands by which a student hands in their work."""
    for assignment in student.work:
        if assignment in student.validates:
            notebook = f"{assignment}/{NOTEBOOKS[assignment]}.ipynb"
            yield stage.student(student, f"validate {notebook}")
        yield stage.student(student, f"submit {assignment} --student={student.name}")


def read_marks(
    stage: Stage, students: Iterable[Student]
) -> Iterator[tuple[tuple[str, str], Mark]]:
    """Yield every student's mark for every assignment that they submitted."""
    log = "\n".join(done.log for done in stage.finished)
    with Gradebook(f"sqlite:///{stage.course}/gradebook.db", "jax") as gradebook:
        for student in students:
            for assignment in student.work:
                yield (
                    (student.name, assignment),
                    read_mark(stage.course, gradebook, log, student.name, assignment),
                )


def read_mark(
    course: Path, gradebook: Gradebook, log: str, student: str, assignment: str
) -> Mark:
    """Return a score from the gradebook, with a phrase from where it went wrong."""
    graded = course / "autograded" / student / assignment
    notebook = graded / f"{NOTEBOOKS[assignment]}.ipynb"
    if not notebook.exists():
        # The log says "<folder> is empty: ..." or "<folder>: <file> cannot be (...)".
        folder = re.escape(f"submitted/{student}/{assignment}")
        said = re.search(rf"{folder}:? (?:\S+\.ipynb )?(.*?)(?: \(|[:;,])", log)
        return Mark(None, said[1] if said else "not graded")
    try:
        submission = gradebook.find_submission(assignment, student)
    except MissingEntry:
        return Mark(None, "not in the gradebook")
    phrases = [first_failure(notebook)]
    if submission.total_seconds_late > 0:
        phrases.append("late")
    return Mark(submission.score, ", ".join(filter(None, phrases)))


def first_failure(notebook: Path) -> str:
    """Return the first line of the first failed test's message, "" if none failed."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return phrase(output.ename, output.evalue)
    return ""


def phrase(ename: str, evalue: str) -> str:
    """Return an error's message in a phrase."""
    if evalue.startswith("NotImplementedError"):
        return "not started"
    # numpy.testing puts its tolerances before the message of the test.
    lines = [line for line in evalue.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Not equal to tolerance")]
    return (said or [ename])[0].strip()


def table(week: Week) -> Table:
    """Return student x problem with scores, and what went wrong in a phrase."""
    report = Table(title="Scores (of 10) after one week", title_justify="left")
    report.add_column("student", no_wrap=True)
    for assignment in NOTEBOOKS:
        heading = assignment.replace("-", "-\n")
        report.add_column(heading, justify="right", no_wrap=True)
    report.add_column("what went wrong")
    for student in dict.fromkeys(name for name, _ in week.marks):
        marks = {a: m for (name, a), m in week.marks.items() if name == student}
        cells = [
            "" if a not in marks else score_text(marks[a].score) for a in NOTEBOOKS
        ]
        wrong = next((f"{a}: {m.phrase}" for a, m in marks.items() if m.phrase), "")
        report.add_row(student, *cells, shorten(wrong, 160, placeholder=" …"))
    return report


def score_text(score: float | None) -> str:
    """Return a score as the table shows it."""
    return "none" if score is None else f"{score:g}"


def main() -> int:
    """Play the week for an audience; return the exit status."""
    plug_in()
    console = Console(width=None if sys.stdout.isatty() else 100)
    scratch = Path(tempfile.mkdtemp(prefix="jaxgrader-demo-"))
    week = play(scratch, lambda line: console.print(line, highlight=False))
    console.print()
    console.print(table(week))
    page = next((week.students / "reasoner").glob("*/feedback/*/*.html"), None)
    report = [sys.executable, "-m", "jaxgrader", "report"]
    subprocess.run(report, cwd=week.course, check=True, capture_output=True)
    console.print(f"Every command's output: {scratch}/week.log", soft_wrap=True)
    console.print(f"The grades, exported:   {week.course}/grades.csv", soft_wrap=True)
    address = (week.course / "report.html").as_uri()
    console.print(f"The class report:       {address}", soft_wrap=True)
    if page is None:
        console.print("No feedback came back: see the log.")
        return 1
    console.print(f"A feedback page:        {page.as_uri()}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
