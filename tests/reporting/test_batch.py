"""From a batch of the course's own answers to its exports and its report."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from demo.students import FORI, NOTEBOOKS, answer
from tests.conftest import CLONE, Course
from tests.reporting.test_page import report, rows
from tests.test_cli import jaxgrader

ANSWERS = {
    "ada": "right_idiomatic",
    "bob": "unrolled_python_loop",
    "cleo": "untraced_numpy",
    "dan": "wrong_zeros",
}


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    shutil.copytree(CLONE / "source" / FORI, course.root / "source" / FORI)
    (done,) = course.nbgrader(f"generate_assignment {FORI}")
    assert done.status == 0, done.log
    for student, variant in ANSWERS.items():
        folder = course.hand_out(FORI, student)
        answer(FORI, variant)(folder / f"{NOTEBOOKS[FORI]}.ipynb")
    graded = jaxgrader("autograde", cwd=course.root)
    assert graded.returncode == 0, graded.stderr
    return course


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_exports(course: Course) -> None:
    done = jaxgrader("export", cwd=course.root)
    assert done.returncode == 0, done.stderr
    scores = {
        row["student_id"]: (row["score"], row["tests"], row["tests_passed"])
        for row in read(course.root / "exports" / "assignments.csv")
    }
    assert scores["ada"] == ("10.0", "6", "6")
    assert scores["bob"] == ("9.0", "6", "5")
    for row in read(course.root / "exports" / "notebooks.csv"):
        assert 10_000_000 < int(row["memory"]) < 4 << 30
        assert float(row["seconds"]) > 0


def test_report(course: Course) -> None:
    soup = BeautifulSoup(report(course), "html.parser")
    found = rows(soup, f"What test_structure found in {FORI}")
    by_finding = {
        row[2]: behind[1] for row, behind in zip(found[::2], found[1::2], strict=False)
    }
    assert "bob" in by_finding["a loop unrolled in Python"]
    assert "cleo" in by_finding["a function that JAX cannot trace"]
    assert [row for row in found if len(row) == 3][-1][2] == "as asked"
    assert "Memory of the kernel (MB)" in soup.get_text()
