"""Cheaters with a wrong answer earn what it earns, and nobody waits for a human.

One class, one `nbgrader autograde`: what one of them does must not touch the others.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.commands import Finished
from tests.attacks import cheats
from tests.attacks.cheats import WRONG
from tests.conftest import Course, nbgrader_cell, notebook_of

RIGHT = "RATE = 3.0\ndef scale(x):\n    return 3 * x\n"
#: Stands in the hidden test; who finds it answers right.
MARK = "the_mark_of_the_hidden_test"

TESTS = {
    "visible": (2, "kept = scale(7.0)\nassert scale(2.0) == 6.0"),
    "hidden": (
        3,
        f"### BEGIN HIDDEN TESTS\n{MARK} = np.array([1.5, -2.0, 4.25])\n"
        f"np.testing.assert_allclose(scale({MARK}), 3 * {MARK})\n### END HIDDEN TESTS",
    ),
    "shared": (1, "assert kept.real == 21.0"),
    "loop": (
        1,
        "for x, y in zip([8.0, 9.0], map(scale, [8.0, 9.0])):\n    assert y == 3 * x",
    ),
    "truth": (1, "scale(4.0) == 12.0"),
    "either": (1, "scale(5.0) and scale(5.0) == 15.0"),
    "credit": (1, "scale(0.5) / 1.5"),
    "whole": (1, "scale(2) // 6"),
    "rate": (1, "assert RATE == 3.0"),
}
PROBLEM = notebook_of(
    nbgrader_cell("locked", "imports", "import numpy as np"),
    nbgrader_cell(
        "solution",
        "answer",
        f"### BEGIN SOLUTION\n{RIGHT}### END SOLUTION",
    ),
    *[
        nbgrader_cell("test", name, text, points)
        for name, (points, text) in TESTS.items()
    ],
)
FULL = {name: float(points) for name, (points, _) in TESTS.items()}
NOTHING = dict.fromkeys(TESTS, 0.0)
ANSWER, FIRST_TEST = 1, 2

Work = Callable[[Any, Path], None]


def types(source: str) -> Work:
    """Write into the solution cell."""

    def work(nb: Any, folder: Path) -> None:
        nb["cells"][ANSWER]["source"] = source

    return work


def before(source: str) -> Work:
    """Do something in a cell of one's own, then answer wrong."""

    def work(nb: Any, folder: Path) -> None:
        nb["cells"][ANSWER]["source"] = WRONG
        mine = {"cell_type": "code", "id": "mine", "metadata": {}, "source": source}
        nb["cells"].insert(ANSWER, mine | {"outputs": [], "execution_count": None})

    return work


def metadata(**changes: Any) -> Work:
    """Answer wrong, and change the metadata of all tests."""

    def work(nb: Any, folder: Path) -> None:
        nb["cells"][ANSWER]["source"] = WRONG
        for cell in nb["cells"][FIRST_TEST:]:
            info = changes.get("nbgrader", {})
            cell["metadata"].update(
                {**changes, "nbgrader": cell["metadata"]["nbgrader"] | info}
            )

    return work


def leave_files(nb: Any, folder: Path) -> None:
    """Hand in modules that shadow what the grader imports."""
    nb["cells"][ANSWER]["source"] = WRONG
    text = "raise SystemExit(0)\ndef __getattr__(name): return lambda *a, **k: True\n"
    for name in ("jaxgrader", "numpy", "jax", "sitecustomize", "usercustomize", "ast"):
        (folder / f"{name}.py").write_text(text)
    (folder / "jaxgrader").mkdir()
    (folder / "jaxgrader" / "__init__.py").write_text(text)
    (folder / "nbgrader_config.py").write_text("raise SystemExit(0)\n")
    (folder / "ipython_config.py").write_text("raise SystemExit(0)\n")


def copy_tests(nb: Any, folder: Path) -> None:
    """Write easy tests of the same names, before and after the real ones."""
    nb["cells"][ANSWER]["source"] = WRONG
    easy = [
        dict(cell, id=f"easy{i}", source="pass")
        for i, cell in enumerate(nb["cells"][2:])
    ]
    nb["cells"][ANSWER:ANSWER] = easy
    nb["cells"] += [dict(cell, id=f"more{i}") for i, cell in enumerate(easy)]


def move_tests(nb: Any, folder: Path) -> None:
    """Put the tests in front of a right answer that comes too late, in reverse."""
    nb["cells"][ANSWER]["source"] = WRONG
    nb["cells"].reverse()


def change_types(nb: Any, folder: Path) -> None:
    nb["cells"][ANSWER]["source"] = WRONG
    for cell in nb["cells"][FIRST_TEST:]:
        cell["cell_type"] = "markdown"
        del cell["outputs"], cell["execution_count"]


def change_kernel(nb: Any, folder: Path) -> None:
    nb["cells"][ANSWER]["source"] = WRONG
    nb["metadata"]["kernelspec"] = {
        "name": "bash",
        "display_name": "B",
        "language": "sh",
    }
    nb["metadata"]["jaxgrader"] = {"results": "passed"}


def paste_outputs(nb: Any, folder: Path) -> None:
    """Hand in the outputs of a good test."""
    nb["cells"][ANSWER]["source"] = WRONG
    value = {"output_type": "execute_result", "data": {"text/plain": "1.0"}}
    for cell in nb["cells"][FIRST_TEST:]:
        cell["outputs"] = [value | {"metadata": {}, "execution_count": 1}]


NOTEBOOKS: dict[str, Work] = {
    "files": leave_files,
    "copies": copy_tests,
    "moves": move_tests,
    "cell_types": change_types,
    "kernelspec": change_kernel,
    "outputs": paste_outputs,
    "skip": metadata(tags=["skip-execution", "raises-exception"]),
    "in_kernel": metadata(tags=["in-kernel"]),
    "points": metadata(nbgrader={"points": 1000}),
    "ungraded": metadata(nbgrader={"grade": False, "solution": True}),
    "verdict": metadata(
        jaxgrader={"outcome": "passed", "sentence": "", "protected": True}
    ),
}
#: Credit that a wrong answer honestly earns.
EARNED: dict[str, dict[str, float | None]] = {
    "table": {"visible": 2.0, "shared": 1.0},
    "always_true": {"credit": 1 / 1.5},
    "negative": {"credit": None, "whole": None, "rate": 0.0},
}
TABLE = (
    "RATE = 0.0\ndef scale(x):\n"
    "    return {7.0: 21.0, 2.0: 6.0}.get(x, 0.0) if isinstance(x, float) else 0 * x\n"
)


def coded(*tables: dict[str, str]) -> dict[str, Work]:
    return {name: types(code) for table in tables for name, code in table.items()}


CHEATERS: dict[str, Work] = {
    **{
        name: before(code)
        for name, code in {**cheats.IPYTHON, **cheats.PATCHES}.items()
    },
    **coded(cheats.REPLIES, cheats.MESSAGES, cheats.LIES, cheats.ERRORS),
    **coded(
        {name: cheats.search(text, MARK) for name, text in cheats.SEARCHES.items()}
    ),
    **NOTEBOOKS,
    "wrong": types(WRONG),
    "table": types(TABLE),
    "negative": types("RATE = -1.0\ndef scale(x):\n    return -12 * x\n"),
    "turncoat": types(cheats.ERRORS["killed"]),
}


def hand_in(course: Course, student: str, work: Work, when: str) -> None:
    folder = course.root / "submitted" / student / "ps"
    if not folder.exists():
        course.hand_out("ps", student)
    released = course.root / "release" / "ps" / "p.ipynb"
    nb = json.loads(released.read_text())
    work(nb, folder)
    (folder / "p.ipynb").write_text(json.dumps(nb))
    (folder / "timestamp.txt").write_text(f"{when} 12:00:00 UTC")


@pytest.fixture(scope="module")
def graded(new_course: Callable[[], Course]) -> tuple[Course, Finished]:
    course = new_course()
    course.write_source("ps", "p", PROBLEM)
    course.nbgrader("generate_assignment ps")
    hand_in(course, "turncoat", types(RIGHT), "2026-01-01")
    hand_in(course, "zz_right", types(RIGHT), "2026-01-01")
    course.nbgrader("autograde ps --student=turncoat")
    assert course.scores("turncoat", "ps") == FULL
    for student, work in CHEATERS.items():
        hand_in(course, student, work, "2026-02-01")
    (done,) = course.nbgrader("autograde ps --Execute.timeout=3 --Limits.wall=40")
    return course, done


def test_nothing_stops_the_batch(graded: tuple[Course, Finished]) -> None:
    course, done = graded
    assert done.status == 0, done.log[-5000:]
    assert "Traceback" not in done.log
    assert course.scores("zz_right", "ps") == FULL, "graded last"


@pytest.mark.parametrize("student", CHEATERS)
def test_honest_points(graded: tuple[Course, Finished], student: str) -> None:
    course, _ = graded
    expected = NOTHING | EARNED.get(student, {})
    told = why(course, student)
    scores = course.scores(student, "ps")
    assert set(scores) == set(expected), told
    for name, score in scores.items():
        points = expected[name]
        assert score == (points and pytest.approx(points, rel=1e-6)), told


@pytest.mark.parametrize("student", CHEATERS)
def test_nbgrader_reads_the_same_points(
    graded: tuple[Course, Finished], student: str
) -> None:
    """The outputs in autograded/, which formgrader and feedback show, say the same."""
    from nbgrader.utils import determine_grade

    course, _ = graded
    scores = course.scores(student, "ps")
    for cell in cells_of(course, student):
        score = scores.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if score is not None:
            assert determine_grade(cell)[0] == score


def cells_of(course: Course, student: str) -> list[Any]:
    import nbformat

    path = course.root / "autograded" / student / "ps" / "p.ipynb"
    return list(nbformat.read(path, as_version=4).cells)


def why(course: Course, student: str) -> str:
    """Return what was said of each test."""
    try:
        cells = cells_of(course, student)
    except OSError:
        return "not graded at all"
    return "\n".join(
        f"{cell.metadata.nbgrader.grade_id}: "
        + " | ".join(
            o.get("evalue", str(o.get("data", o.get("text"))))[:300]
            for o in cell.outputs
        )
        for cell in cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    )
