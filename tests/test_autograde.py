"""`jaxgrader autograde` on a real course: as stock does, resumable, one at a time."""

import contextlib
import datetime
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbgrader.coursedir import CourseDirectory

from jaxgrader.lock import Lock
from jaxgrader.store import Store
from tests.conftest import BARE, DOUBLE, Course, nbgrader_cell, notebook_of
from tests.test_cli import PROGRAM, jaxgrader

RIGHT = "def double(x):\n    return 2 * x"
ANSWERS = {
    "ada": RIGHT,
    "bob": "def double(x):\n    return 4",
    "cleo": "raise ValueError('no')",
    "dan": "import os; os._exit(1)",
    "late": RIGHT,
    "noisy": f"import sys\nprint('to stderr', file=sys.stderr)\n{RIGHT}",
}
#: Two notebooks, files of the course's, a text that is graded by hand.
EXTRA = notebook_of(
    nbgrader_cell("solution", "half", "def half(x):\n    raise NotImplementedError()"),
    nbgrader_cell("test", "test_half", "assert half(4) == 2", 1),
)
ESSAY = nbgrader_cell("solution", "essay", "Your words here")
ESSAY.metadata.nbgrader.update(grade=True, points=4)
ESSAY.cell_type = "markdown"
for key in ("outputs", "execution_count"):
    del ESSAY[key]


def a_class(course: Course) -> Course:
    """Write a course of one assignment and hand in all kinds of answers."""
    nb = nbformat.from_dict(DOUBLE)
    nb.cells.append(ESSAY)
    course.write_source("ps", "p", nb)
    course.write_source("ps", "q", EXTRA)
    (course.root / "source" / "ps" / "data.txt").write_text("the author's")
    (done,) = course.nbgrader("generate_assignment ps")
    assert done.status == 0, done.log
    for student, answer in ANSWERS.items():
        folder = course.hand_out("ps", student)
        write_answer(folder / "p.ipynb", answer)
        (folder / "data.txt").write_text("the student's")
        (folder / "notes").mkdir()
        (folder / "notes" / "mine.txt").write_text(student)
        stamp = (
            "2026-02-02 10:00:00 UTC"
            if student == "late"
            else "2026-01-01 10:00:00 UTC"
        )
        (folder / "timestamp.txt").write_text(stamp)
    (course.root / "submitted" / "bob" / "ps" / "q.ipynb").unlink()
    (course.root / "submitted" / "cleo" / "ps" / "timestamp.txt").unlink()
    write_answer(course.root / "submitted" / "ada" / "ps" / "p.ipynb", "It doubles.", 4)
    course.hand_out("ps", "untouched")
    (course.hand_out("ps", "broken") / "p.ipynb").write_text("{")
    renamed = course.hand_out("ps", "renamed")
    (renamed / "p.ipynb").rename(renamed / "{mine}.ipynb")
    (renamed / "q.ipynb").unlink()
    set_deadline(course)
    return course


def write_answer(path: Path, answer: str, cell: int = 1) -> None:
    nb = nbformat.read(path, as_version=4)
    nb.cells[cell].source = answer
    nbformat.write(nb, path)


def set_deadline(course: Course) -> None:
    change(course, "UPDATE assignment SET duedate = ?", "2026-01-31 00:00:00.000000")
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write(LATE)


LATE = """
from nbgrader.plugins import LateSubmissionPlugin


class HalfOff(LateSubmissionPlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return score / 2


c.AssignLatePenalties.plugin_class = HalfOff
"""


def change(course: Course, sql: str, *values: object) -> None:
    database = sqlite3.connect(course.root / "gradebook.db")
    with database:
        database.execute(sql, values)
    database.close()


def grade(course: Course, *more: str) -> subprocess.CompletedProcess[str]:
    return jaxgrader("autograde", *more, cwd=course.root)


def records(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the lines of --json by student."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {each["student"]: each for each in map(json.loads, lines)}


@pytest.fixture(scope="module")
def pair(new_course: Callable[[], Course]) -> tuple[Course, Course, Any]:
    """The same class, graded by nbgrader's command and by ours."""
    stock, ours = a_class(new_course()), new_course()
    shutil.rmtree(ours.root)
    shutil.copytree(stock.root, ours.root)
    config = ours.root / "nbgrader_config.py"
    (done,) = stock.nbgrader("autograde ps")
    assert done.status == 1, done.log
    assert config.exists()
    return stock, ours, grade(ours, "--json")


def rows(course: Course) -> dict[str, list[tuple[object, ...]]]:
    """Return all that the gradebook says of submissions, without its random ids."""
    return {
        name: sorted(course.query(sql), key=repr)
        for name, sql in {
            "students": "SELECT * FROM student",
            "submissions": f"SELECT a.name, s.student_id, s.timestamp, s.extension"
            f" FROM {SUBMISSIONS}",
            "notebooks": "SELECT a.name, s.student_id, b.name, n.flagged,"
            f" n.late_submission_penalty FROM {SUBMISSIONS} {NOTEBOOKS}",
            "grades": "SELECT a.name, s.student_id, b.name, c.name, g.auto_score,"
            " g.manual_score, g.extra_credit, g.needs_manual_grade"
            f" FROM {SUBMISSIONS} {NOTEBOOKS}"
            " JOIN grade g ON g.notebook_id = n.id JOIN base_cell c ON c.id=g.cell_id",
            "comments": "SELECT a.name, s.student_id, b.name, c.name, g.auto_comment,"
            f" g.manual_comment FROM {SUBMISSIONS} {NOTEBOOKS}"
            " JOIN comment g ON g.notebook_id = n.id"
            " JOIN base_cell c ON c.id = g.cell_id",
        }.items()
    }


SUBMISSIONS = "submitted_assignment s JOIN assignment a ON a.id = s.assignment_id"
NOTEBOOKS = (
    "JOIN submitted_notebook n ON n.assignment_id = s.id"
    " JOIN notebook b ON b.id = n.notebook_id"
)


def tree(course: Course) -> dict[str, tuple[object, ...]]:
    """Return autograded/: names, permissions, contents."""
    root = course.root / "autograded"
    return {
        str(path.relative_to(root)): (
            stat.S_IMODE(path.stat().st_mode),
            contents(path) if path.is_file() else None,
        )
        for path in root.rglob("*")
        if ".staged" not in path.parts
    }


def contents(path: Path) -> object:
    if path.suffix != ".ipynb":
        return path.read_bytes()
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        cell.pop("execution_count", None)
        cell.metadata.pop("execution", None)  # times
        for output in cell.get("outputs", ()):
            output.pop("execution_count", None)
            if output.output_type == "error":
                output.pop("traceback")
    return nb


@pytest.mark.parametrize(
    "table", ["students", "submissions", "notebooks", "grades", "comments"]
)
def test_the_gradebook_is_what_nbgrader_writes(
    pair: tuple[Course, Course, Any], table: str
) -> None:
    stock, ours, done = pair
    assert done.returncode == 3, done.stderr
    assert rows(ours)[table] == rows(stock)[table]
    assert rows(ours)[table], "there is something to compare"


def test_autograded_is_what_nbgrader_writes(pair: tuple[Course, Course, Any]) -> None:
    stock, ours, _ = pair
    theirs, mine = tree(stock), tree(ours)
    assert mine.keys() == theirs.keys()
    for name, entry in theirs.items():
        assert mine[name] == entry, name
    assert "late/ps/notes/mine.txt" in mine
    assert mine["late/ps/data.txt"][1] == b"the author's"


def test_what_cannot_be_read_is_said_and_has_no_score(
    pair: tuple[Course, Course, Any],
) -> None:
    _, ours, done = pair
    states = {name: each["state"] for name, each in records(done).items()}
    assert states == {
        **dict.fromkeys(ANSWERS, "graded"),
        "ada": "needs manual grading",  # her essay; an unwritten one is zero
        "untouched": "graded",
        "broken": "failed",
        "renamed": "failed",
    }
    assert "submitted/broken/ps: p.ipynb cannot be read as a notebook" in done.stderr
    log = ".jaxgrader/logs/ps/broken.log"
    assert f"Its log is {log}." in done.stderr
    assert "cannot be read as a notebook" in (ours.root / log).read_text()
    essay = (ours.root / ".jaxgrader/logs/ps/ada.log").read_text()
    assert "test_visible: passed, 2 of 2." in essay
    assert "has {mine}.ipynb, which is not part of the assignment" in done.stderr
    for student in ("broken", "renamed"):
        assert not ours.grades(student, "ps")
        assert not (ours.root / "autograded" / student / "ps").exists()


def test_submitted_files_are_not_touched(pair: tuple[Course, Course, Any]) -> None:
    stock, ours, _ = pair
    for path in (stock.root / "submitted").rglob("*"):
        if path.is_file():
            same = ours.root / path.relative_to(stock.root)
            assert same.read_bytes() == path.read_bytes()


def test_feedback_and_export_go_on_from_there(
    pair: tuple[Course, Course, Any],
) -> None:
    _, ours, _ = pair
    made, exported = ours.nbgrader("generate_feedback ps --student=ada", "export")
    assert made.status == 0, made.log
    assert exported.status == 0, exported.log
    assert (ours.root / "feedback" / "ada" / "ps" / "p.html").exists()


@pytest.fixture
def course(pair: tuple[Course, Course, Any], tmp_path: Path) -> Course:
    """A copy of the graded course, to change."""
    shutil.copytree(pair[1].root, tmp_path / "course", symlinks=True)
    copied = Course(tmp_path / "course")
    with (copied.root / "nbgrader_config.py").open("a") as config:
        config.write(LATE)
    return copied


def test_nothing_is_graded_twice(course: Course) -> None:
    before = {path: path.stat().st_ino for path in course.root.rglob("*.ipynb")}
    done = grade(course, "--workers=1")
    assert done.returncode == 0, done.stderr
    assert "0 submissions to grade, 9 up to date, 0 stale" in done.stderr
    assert {path: path.stat().st_ino for path in course.root.rglob("*.ipynb")} == before


def test_a_new_submission_is_graded_again_and_alone(course: Course) -> None:
    folder = course.root / "submitted" / "bob" / "ps"
    write_answer(folder / "p.ipynb", RIGHT)
    assert records(grade(course, "--json")).keys() == {"bob"}
    assert course.scores("bob", "ps")["test_hidden"] == 3


def test_a_mended_submission_is_graded(course: Course) -> None:
    shutil.copy(
        course.root / "release" / "ps" / "p.ipynb",
        course.root / "submitted" / "broken" / "ps",
    )
    assert records(grade(course, "--json"))["broken"]["state"] == "graded"


def test_serial_ends_its_checkers_without_a_word(course: Course) -> None:
    """They end with the process, when it lends out no more threads."""
    done = grade(course, "--executor=serial", "--student=ada", "--force")
    assert "Done: 1" in done.stderr
    for noise in ("Traceback", "zmq"):
        assert noise not in done.stderr


def test_a_checker_serves_all_of_its_assignment(
    new_course: Callable[[], Course],
) -> None:
    """Another assignment between two of its submissions does not end it."""
    course = new_course()
    for name in ("one", "two"):
        counting = nbgrader_cell("test", "counting", COUNTING, 1)
        course.write_source(name, "p", notebook_of(counting))
        course.nbgrader(f"generate_assignment {name}")
        for student in ("ada", "bob"):
            course.hand_out(name, student)
    done = grade(course, "--executor=serial")
    assert "Done: 4" in done.stderr
    counted = [
        nbformat.read(path, as_version=4).cells[0].outputs[0].text
        for path in (course.root / "autograded").rglob("*.ipynb")
    ]
    assert sorted(counted) == ["1\n", "1\n", "2\n", "2\n"]


#: How many submissions this process has seen: modules outlive the namespace.
COUNTING = """\
import colorsys
colorsys.seen = getattr(colorsys, "seen", 0) + 1
print(colorsys.seen)
"""


def test_manual_scores_stay_and_are_flagged(course: Course) -> None:
    change(course, "UPDATE grade SET manual_score = 1.5, extra_credit = 1")
    grade(course, "--force", "--student=ada")
    name = "SELECT manual_score, extra_credit, needs_manual_grade FROM grade g"
    (rows,) = [set(course.query(name))]
    assert {row[:2] for row in rows} == {(1.5, 1.0)}
    assert course.grades("ada", "ps")["test_hidden"] == (3, 1)


def test_unreadable_resubmission_flags_the_older_score(course: Course) -> None:
    folder = course.root / "submitted" / "ada" / "ps"
    earlier = (course.root / "autograded" / "ada" / "ps" / "p.ipynb").read_bytes()
    (folder / "p.ipynb").write_text("{")
    done = grade(course, "--json")
    assert records(done)["ada"]["state"] == "failed"
    assert "wait for manual grading" in done.stderr
    assert course.grades("ada", "ps")["test_hidden"] == (3, 1)
    there = (course.root / "autograded" / "ada" / "ps" / "p.ipynb").read_bytes()
    assert there == earlier


def test_one_notebook_of_several(course: Course) -> None:
    for name in ("p", "q"):
        path = course.root / "autograded" / "ada" / "ps" / f"{name}.ipynb"
        path.chmod(0o644)
        path.write_text("old")
    done = grade(course, "--json", "--student=ada", "--notebook=p")
    assert records(done)["ada"]["max_score"] == 5
    graded = course.root / "autograded" / "ada" / "ps"
    assert (graded / "p.ipynb").read_text() != "old"
    assert (graded / "q.ipynb").read_text() == "old", "the other one stays"
    assert "ada" in records(grade(course, "--json")), "all of it is still missing"


def rewrite_source(course: Course, edit: Callable[[Any], None]) -> None:
    path = course.root / "source" / "ps" / "p.ipynb"
    nb = nbformat.read(path, as_version=4)
    edit(nb)
    nbformat.write(nb, path)
    (done,) = course.nbgrader("generate_assignment ps --force")
    assert done.status == 0, done.log


def test_a_changed_hidden_test_makes_results_stale(course: Course) -> None:
    def edit(nb: Any) -> None:
        nb.cells[3].source = nb.cells[3].source.replace("2 * math.pi", "4")

    rewrite_source(course, edit)
    done = grade(course, "--json")
    assert not records(done)
    assert "0 submissions to grade, 2 up to date, 7 stale" in done.stderr
    stale = course.query("SELECT student FROM jaxgrader_ledger WHERE stale")
    assert {row[0] for row in stale} == {*ANSWERS, "untouched"}
    done = grade(course, "--json", "--stale", "--student=[ab]*")
    assert records(done).keys() == {"ada", "bob"}
    assert course.scores("ada", "ps")["test_hidden"] == 0
    assert course.scores("bob", "ps")["test_hidden"] == 3, "he always says 4"
    assert course.scores("late", "ps")["test_hidden"] == 3, "on request only"


def test_changed_points_make_results_stale(course: Course) -> None:
    def edit(nb: Any) -> None:
        nb.cells[3].metadata.nbgrader.points = 30

    rewrite_source(course, edit)
    grade(course, "--stale", "--student=ada")
    assert course.scores("ada", "ps")["test_hidden"] == 30


def test_cells_come_and_go_after_submissions(course: Course) -> None:
    change(course, "UPDATE grade SET manual_score = 0.5")

    def edit(nb: Any) -> None:
        del nb.cells[2]  # test_visible
        test = nbgrader_cell("test", "test_new", "assert double(0) == 0", 7)
        nb.cells.insert(2, test)

    rewrite_source(course, edit)
    waiting = course.grades("ada", "ps")
    assert waiting["test_new"] == (None, 1), "a human must look, until it is graded"
    assert "test_visible" not in waiting
    done = grade(course, "--json", "--stale", "--student=ada")
    assert records(done)["ada"]["auto_score"] == 10, done.stderr
    assert course.scores("ada", "ps")["test_new"] == 7
    kept = "SELECT count(*) FROM grade WHERE manual_score = 0.5"
    gone = len(ANSWERS) + 1
    total = course.query("SELECT count(*) FROM grade")[0][0]
    assert course.query(kept)[0][0] == int(str(total)) - gone, "all that stayed"
    graded = nbformat.read(
        course.root / "autograded" / "ada" / "ps" / "p.ipynb", as_version=4
    )
    known = [cell.metadata.get("nbgrader") for cell in graded.cells]
    order = [each.grade_id for each in known if each]
    assert order == ["imports", "double", "test_new", "test_hidden", "essay"]


def test_nbgraders_own_command_makes_the_record_go(course: Course) -> None:
    course.nbgrader("autograde ps --student=ada --force")
    assert records(grade(course, "--json")).keys() == {"ada"}


def test_a_second_grader_is_told_who_holds_the_course(course: Course) -> None:
    (course.root / "autograded" / "ada" / "ps" / "p.ipynb").unlink()
    before = rows(course)
    with Lock(course.root):
        done = grade(course, "--force")
        (stock,) = course.nbgrader("autograde ps --force")
    for status, said in ((done.returncode, done.stderr), (stock.status, stock.log)):
        assert status == 1
        assert "This course is being graded by `" in said
        assert f"(process {os.getpid()} on " in said
    assert rows(course) == before


def test_the_formgraders_button_is_told_likewise(course: Course) -> None:
    program = (
        "from nbgrader.apps.api import NbGraderAPI\n"
        "from nbgrader.apps import NbGraderApp\n"
        "import json, sys\n"
        "app = NbGraderApp(); app.initialize([])\n"
        "api = NbGraderAPI(app.coursedir, parent=app)\n"
        "print('RESULT', json.dumps(api.autograde('ps', 'ada')))\n"
    )
    import sys

    with Lock(course.root):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=course.root,
            env={**BARE, "HOME": str(course.root)},
            capture_output=True,
            text=True,
            check=False,
        )
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("RESULT")]
    answer = json.loads(line.removeprefix("RESULT"))
    assert not answer["success"]
    assert "This course is being graded by" in answer["log"] + answer.get("error", "")


def test_killed_between_commit_and_move(course: Course) -> None:
    """What the transaction names is moved into place by whoever comes next."""
    graded = course.root / "autograded" / "ada" / "ps"
    staged = course.root / "autograded" / ".staged" / "abc"
    shutil.copytree(graded, staged)
    (staged / "new.txt").write_text("moved")
    orphan = staged.with_name("orphan")
    shutil.copytree(graded, orphan)
    change(
        course,
        "UPDATE jaxgrader_ledger SET staged = 'abc', activity = 'running'"
        " WHERE student = 'ada'",
    )
    done = grade(course, "--json")
    assert not records(done)
    assert (graded / "new.txt").read_text() == "moved"
    assert not staged.parent.exists()
    left = "SELECT count(*) FROM jaxgrader_ledger WHERE staged IS NOT NULL OR activity"
    assert course.query(left) == [(0,)]


def test_interrupted_between_commit_and_move(course: Course) -> None:
    """As above, but the coordinator had the time to say that the batch is over."""
    staged = course.root / "autograded" / ".staged" / "abc"
    shutil.copytree(course.root / "autograded" / "ada" / "ps", staged)
    (staged / "new.txt").write_text("moved")
    where = "UPDATE jaxgrader_ledger SET staged = 'abc' WHERE student = 'ada'"
    change(course, where)
    with opened(course) as store:
        store.end_batch()
    grade(course)
    assert (course.root / "autograded" / "ada" / "ps" / "new.txt").exists()


@contextlib.contextmanager
def opened(course: Course) -> Iterator[Store]:
    url = f"sqlite:///{course.root}/gradebook.db"
    store = Store(CourseDirectory(root=str(course.root), db_url=url, course_id="jax"))
    try:
        yield store
    finally:
        store.close()


def test_names_that_no_database_takes(course: Course) -> None:
    strange = os.fsencode(course.root / "submitted") + b"/\xff\xfe"
    shutil.copytree(course.root / "submitted" / "ada", os.fsdecode(strange))
    broken = course.root / "submitted" / "eve" / "ps"
    shutil.copytree(course.root / "submitted" / "broken" / "ps", broken)
    (broken / os.fsdecode(b"p\xff.ipynb")).write_text("{")
    done = grade(course, "--json")
    assert records(done).keys() == {"eve"}
    assert "is no name for a student, since it is not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_names_say_what_there_is(course: Course) -> None:
    done = grade(course, "nope")
    assert done.returncode == 1
    assert "The gradebook has no assignment 'nope'" in done.stderr
    assert "It has: ps." in done.stderr
    done = grade(course, "ps", "--student=nobody")
    assert "submitted/ holds no 'ps' by student 'nobody'" in done.stderr


def test_corrupt_gradebook_is_said(course: Course) -> None:
    (course.root / "gradebook.db").write_bytes(b"no database" * 1000)
    done = grade(course)
    assert done.returncode == 1
    assert "gradebook.db cannot be used (file is not a database)" in done.stderr
    assert "Traceback" not in done.stderr


def test_locked_gradebook_does_not_stop_readers(course: Course) -> None:
    """The formgrader reads while a batch writes, and the other way round."""
    reader = sqlite3.connect(course.root / "gradebook.db")
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM grade").fetchone()[0]
    done = grade(course, "--force", "--student=ada", "--json")
    assert records(done)["ada"]["auto_score"] == 5, done.stderr
    reader.close()


def test_files_that_cannot_be_written_are_said(course: Course) -> None:
    """A disk that is full or read-only looks like this; nothing is half-written."""
    (course.root / "autograded" / ".staged").write_text("in the way")
    before, files = rows(course), tree(course)
    done = grade(course, "--force")
    assert done.returncode == 1
    assert "cannot be written (" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert (rows(course), tree(course)) == (before, files)


def test_interrupt_stops_at_once_and_loses_nothing(course: Course) -> None:
    before, files = rows(course), tree(course)
    loop = course.root / "submitted" / "dan" / "ps" / "p.ipynb"
    write_answer(loop, "while True: pass")
    with subprocess.Popen(
        [PROGRAM, "autograde", "--student=dan"],
        cwd=course.root,
        env={**BARE, "HOME": str(course.root)},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert "1 submissions to grade" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        log = running.stderr.read()
    assert running.returncode == 1
    assert "Stopped: 0 of" in log
    assert "Traceback" not in log
    assert (rows(course), tree(course)) == (before, files)
    write_answer(loop, ANSWERS["dan"])
    assert not records(grade(course, "--json")), "nothing is missing"


def test_status_tells_where_all_stand(course: Course) -> None:
    shutil.rmtree(course.root / "autograded" / "late")
    done = jaxgrader("status", cwd=course.root)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("│ ps")]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    # submitted, not graded, queued, running, graded, stale, manual, failed
    assert cells == ["ps", "9", "1", "", "", "5", "", "1", "2"]


def test_the_end_is_a_table_and_what_to_do_next(course: Course) -> None:
    done = grade(course, "--force", "--student=[abc]*")
    assert done.returncode == 3
    assert "This batch" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("│ ps")]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    # of the tests ada has 5, bob 2, cleo 0; broken has none
    assert cells[1:6] == ["2", "2", "2.3", "2", "6"]
    assert "1 need manual grading (formgrader, Manual Grading; " in done.stderr
    assert "logs in .jaxgrader/logs): ps ada" in done.stderr
    assert "1 could not be read, see the messages above and " in done.stderr
    assert ".jaxgrader/logs: ps broken" in done.stderr


def test_a_terminal_shows_progress_and_messages_above_it(course: Course) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 110))
    # COLUMNS is not the terminal's: so are JupyterLab's born.
    env = {**BARE, "HOME": str(course.root), "TERM": "xterm", "COLUMNS": "60"}
    with subprocess.Popen(
        [PROGRAM, "autograde", "--force", "--student=[ab]*"],
        cwd=course.root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as running:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    assert running.returncode == 3
    # Without what moves the cursor, and colours; to erase a line is to begin it anew.
    text = re.sub(r"\x1b\(B|\x1b\[\??[\d;]*([A-Za-z])", erased, shown.decode())
    lines = re.split(r"[\r\n]+", text)
    assert "3/3" in text
    assert "ETA" in text
    assert re.search(r"ps (ada|bob|broken)  \d+ s", text), "what runs, with its age"
    messages = [line for line in lines if "[BatchApp" in line]
    assert any("ERROR" in line and "broken" in line for line in messages), lines
    assert [line for line in messages if not line.startswith("[BatchApp")] == []
    assert any(len(line) > 60 for line in lines if line.startswith("│ ps"))


def erased(sequence: re.Match[str]) -> str:
    return "\n" if sequence[1] == "K" else ""


def test_dry_run_changes_nothing(course: Course) -> None:
    before = rows(course)
    done = grade(course, "--dry-run", "--force")
    assert done.returncode == 0
    assert "grade ps ada" in done.stdout.splitlines()
    assert rows(course) == before


def test_times_are_told_and_not_used(course: Course) -> None:
    """A clock that went backwards: what was graded in the future is still graded."""
    future = datetime.datetime.now() + datetime.timedelta(days=9)
    change(course, "UPDATE jaxgrader_ledger SET changed = ?", future.isoformat())
    for path in (course.root / "autograded").rglob("*"):
        os.utime(path, (4e9, 4e9))
    assert not records(grade(course, "--json"))


def test_configuration_that_does_not_load_grades_nothing(course: Course) -> None:
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write("\nraise RuntimeError('half a configuration')\n")
    done = grade(course, "--force")
    assert done.returncode == 1
    assert "Nothing is graded" in done.stderr


HOOKS = """
import pathlib
def before(assignment, student, notebooks):
    (where,) = notebooks
    file = pathlib.Path(where).with_name("before.txt")
    file.write_text(f"{assignment} {student}")
def after(assignment, student, notebooks):
    raise LookupError(f"after {assignment} {student}")
c.Autograde.pre_convert_hook = before
c.BaseConverter.post_convert_hook = after
"""


def test_nbgraders_hooks_are_called_and_may_fail(course: Course) -> None:
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write(HOOKS)
    done = grade(course, "--force", "--student=bob", "ps")
    assert done.returncode == 0, done.stderr
    # What it wrote came with the submission.
    for step in ("submitted", "autograded"):
        assert (course.root / step / "bob" / "ps" / "before.txt").read_text() == (
            "ps bob"
        )
    assert "c.Autograde.post_convert_hook failed for ps bob" in done.stderr
    assert "LookupError: after ps bob" in done.stderr


def test_these_names_the_submissions_whatever_they_are_called(course: Course) -> None:
    star = course.root / "submitted" / "*"
    shutil.copytree(course.root / "submitted" / "ada", star)
    names = (
        '{"assignment": "ps", "student": "*"}\n{"assignment": "ps", "student": "x"}\n'
    )
    done = jaxgrader("autograde", "--these", "--json", cwd=course.root, input=names)
    assert records(done).keys() == {"*"}
    whole = '{"assignment": "ps"}\n{"assignment": "ps", "student": "ada"}'
    done = jaxgrader(
        "autograde", "--these", "--dry-run", "--force", cwd=course.root, input=whole
    )
    assert len(done.stdout.splitlines()) == len(ANSWERS) + 4


@pytest.mark.parametrize(
    "line", ["ada", "[]", "{}", '{"assignment": 1}', '{"student": "a"}']
)
def test_these_must_be_records(course: Course, line: str) -> None:
    done = jaxgrader("autograde", "--these", "--force", cwd=course.root, input=line)
    assert done.returncode == 1
    assert f"names no submission: {line!r}" in done.stderr
    assert "[1/" not in done.stderr


def test_status_as_records(course: Course) -> None:
    done = jaxgrader("status", "--json", cwd=course.root)
    lines = map(json.loads, done.stdout.splitlines())
    found = {each["student"]: (each["state"], each["need"]) for each in lines}
    assert found["broken"] == ("failed", "none")
    assert found["bob"] == ("graded", "none")
    assert len(found) == len(ANSWERS) + 3
