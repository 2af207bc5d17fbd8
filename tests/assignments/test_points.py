"""Every answer in `variants/` earns its points through `nbgrader autograde`.

A variant is what a student might type into the solution cell. Its docstring names the
mistake, and states what each test must give for it.
"""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from demo.students import NOTEBOOKS, VARIANTS, type_in, variant
from tests.conftest import CLONE, Course

#: The six tests of each problem, and the points of a right answer.
FULL = {
    "test_shape_and_dtype": 2,
    "test_worked_value": 2,
    "test_general_values": 2,
    "test_edge_cases": 2,
    "test_determinism": 1,
    "test_structure": 1,
}
#: What right numbers earn that come from a Python loop, or from NumPy.
NUMBERS = FULL | {"test_structure": 0}


def stated_points(assignment: str, name: str) -> dict[str, float]:
    """Return what a variant's docstring says that it earns."""
    text = (VARIANTS / assignment / f"{name}.py").read_text()
    (line,) = re.findall(r"(?m)^Earns: (.*)$", ast.get_docstring(ast.parse(text)) or "")
    return {f"test_{k}": float(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}


def names(assignment: str) -> list[str]:
    return sorted(path.stem for path in (VARIANTS / assignment).glob("*.py"))


def solution(assignment: str) -> str:
    """Return the instructor's solution cell."""
    path = CLONE / "source" / assignment / f"{NOTEBOOKS[assignment]}.ipynb"
    (cell,) = (
        c
        for c in nbformat.read(path, as_version=4).cells
        if c.metadata.get("nbgrader", {}).get("solution")
    )
    return str(cell.source)


@pytest.fixture(scope="module")
def graded(new_course: Callable[[], Course]) -> Callable[[str], Course]:
    """Return a function: assignment -> a course where each variant is a student."""
    courses: dict[str, Course] = {}

    def grade(assignment: str) -> Course:
        if assignment not in courses:
            course = courses[assignment] = new_course()
            hand_in_variants(course, assignment)
            (done,) = course.nbgrader(f"autograde {assignment}")
            assert done.status == 0, done.log
        return courses[assignment]

    return grade


def hand_in_variants(course: Course, assignment: str) -> None:
    (course.root / "source").mkdir()
    (course.root / "source" / assignment).symlink_to(CLONE / "source" / assignment)
    course.nbgrader(f"generate_assignment {assignment}")
    codes = {name: variant(assignment, name)[1] for name in names(assignment)}
    codes["solution"] = solution(assignment)
    for student, code in codes.items():
        folder = course.hand_out(assignment, student)
        type_in(code)(folder / f"{NOTEBOOKS[assignment]}.ipynb")
    course.hand_out(assignment, "untouched")


EVERY_VARIANT = [
    pytest.param(a, name, id=f"{a}-{name}") for a in NOTEBOOKS for name in names(a)
]
EVERY_ASSIGNMENT = [pytest.param(a, id=a) for a in NOTEBOOKS]


@pytest.mark.parametrize(("assignment", "name"), EVERY_VARIANT)
def test_variant(graded: Callable[[str], Course], assignment: str, name: str) -> None:
    stated = stated_points(assignment, name)
    assert stated.keys() == FULL.keys()
    assert (stated == FULL) == name.startswith("right_")
    assert (stated == NUMBERS) == name.startswith(("unrolled_", "untraced_"))
    assert graded(assignment).scores(name, assignment) == stated


@pytest.mark.parametrize("assignment", EVERY_ASSIGNMENT)
def test_solution_earns_ten(graded: Callable[[str], Course], assignment: str) -> None:
    assert graded(assignment).scores("solution", assignment) == FULL
    assert sum(FULL.values()) == 10


@pytest.mark.parametrize("assignment", EVERY_ASSIGNMENT)
def test_untouched_release_earns_nothing(
    graded: Callable[[str], Course], assignment: str
) -> None:
    course = graded(assignment)
    assert course.scores("untouched", assignment) == dict.fromkeys(FULL, 0)


@pytest.mark.parametrize("assignment", EVERY_ASSIGNMENT)
def test_lesson_runs_without_an_error(
    graded: Callable[[str], Course], assignment: str
) -> None:
    path = f"autograded/solution/{assignment}/{NOTEBOOKS[assignment]}.ipynb"
    for cell in json.loads((graded(assignment).root / path).read_text())["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", cell["source"]
            assert output.get("name") != "stderr", cell["source"]


@pytest.mark.parametrize("assignment", NOTEBOOKS)
def test_there_are_enough_variants(assignment: str) -> None:
    right = [name for name in names(assignment) if name.startswith("right_")]
    wrong = [name for name in names(assignment) if name.startswith("wrong_")]
    loops = [n for n in names(assignment) if n.startswith(("unrolled_", "untraced_"))]
    assert len(right) >= 4
    assert len(wrong) >= 6
    assert len(loops) >= 1
    assert len(right) + len(wrong) + len(loops) == len(names(assignment))


def test_no_variants_without_an_assignment() -> None:
    folders = {path.name for path in Path(VARIANTS).iterdir() if path.is_dir()}
    assert folders == set(NOTEBOOKS)
