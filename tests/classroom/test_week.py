"""The week that `make demo` plays, from source/ to returned feedback."""

import csv
import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from demo.__main__ import Week, play, table
from demo.students import CLASS, COMPOSED, FORI, LAX, NESTED, NOTEBOOKS, SCAN
from tests.assignments.test_points import stated_points
from tests.conftest import CLONE


def state_of_the_clone() -> tuple[str, list[str]]:
    """Return what git sees, and which of a course's ignored files are there."""
    git = ["git", "-C", str(CLONE), "status", "--porcelain"]
    status = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    made = ("exchange", "feedback", "gradebook.db", "grades.csv", "submitted")
    return status, [name for name in made if (CLONE / name).exists()]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Week:
    before = state_of_the_clone()
    played = play(tmp_path_factory.mktemp("week"), lambda line: None)
    assert state_of_the_clone() == before, "nothing in the clone changes"
    return played


def test_the_class_is_large_and_mixed_enough() -> None:
    assert len(CLASS) >= 6
    assert len({student.name for student in CLASS}) == len(CLASS)


@pytest.mark.parametrize("student", ["bitdiddle", "hacker"])
def test_right_answers_earn_ten_in_two_styles(week: Week, student: str) -> None:
    assert {a: week.marks[student, a].score for a in NOTEBOOKS} == dict.fromkeys(
        NOTEBOOKS, 10
    )


@pytest.mark.parametrize(
    ("student", "assignment", "variant"),
    [
        ("reasoner", FORI, "wrong_one_turn_more"),
        ("reasoner", SCAN, "wrong_slice_missing"),
        ("reasoner", NESTED, "wrong_relu_missing"),
        ("fect", LAX, "unrolled_python_loop"),
        ("fect", COMPOSED, "wrong_unflattened"),
        ("fect", NESTED, "wrong_cached_by_size"),
    ],
)
def test_mistakes_earn_their_points(
    week: Week, student: str, assignment: str, variant: str
) -> None:
    points = sum(stated_points(assignment, variant).values())
    assert week.marks[student, assignment].score == points
    assert week.marks[student, assignment].phrase


@pytest.mark.parametrize(
    ("student", "assignment", "score", "phrase"),
    [
        ("ator", FORI, 0, "not started"),
        ("ator", LAX, 0, "not started"),
        ("lovelace", SCAN, None, "is empty"),
        ("lovelace", NESTED, 10, ""),
        ("turing", FORI, 0, "fori_loop_recurrence took longer than a test may"),
        ("babbage", FORI, 10, ""),
        ("babbage", LAX, None, "cannot be read as a notebook"),
        ("tweakit", FORI, 10, "late"),
    ],
)
def test_misfortunes_are_stated(
    week: Week, student: str, assignment: str, score: float | None, phrase: str
) -> None:
    mark = week.marks[student, assignment]
    assert mark.score == score
    assert mark.phrase.startswith(phrase)
    assert bool(mark.phrase) == bool(phrase)


def test_only_the_broken_file_fails_a_command(week: Week) -> None:
    failed = [" ".join(done.argv) for done in week.finished if done.status != 0]
    assert len(failed) == 1
    assert failed[0].startswith(f"autograde {LAX}")


def test_validate_passes_the_right_answers(week: Week) -> None:
    logs = [done.log for done in week.finished if done.argv[0] == "validate"]
    assert len(logs) == 2
    assert all("Success! Your notebook passes all the tests." in log for log in logs)


def test_feedback_comes_back_to_everyone_who_was_graded(week: Week) -> None:
    for (student, assignment), mark in week.marks.items():
        home = week.students / student / assignment
        pages = list((home / "feedback").glob("*/*.html"))
        assert len(pages) == (mark.score is not None), (student, assignment)


def test_grades_are_exported(week: Week) -> None:
    with (week.course / "grades.csv").open(newline="") as file:
        rows = {(r["student_id"], r["assignment"]): r for r in csv.DictReader(file)}
    for (student, assignment), mark in week.marks.items():
        if mark.score is not None:
            assert float(rows[student, assignment]["score"]) == mark.score


def test_the_table_shows_every_student_and_score(week: Week) -> None:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(table(week))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    for student in CLASS:
        assert f" {student.name} " in text
    assert "none" in text
    assert "late" in text


def test_no_notebook_that_a_student_has_holds_a_hidden_test(week: Week) -> None:
    fetched = [p for p in Path(week.students).rglob("*.ipynb") if p.stat().st_size]
    assert fetched
    assert not any("HIDDEN TESTS" in path.read_text() for path in fetched)
