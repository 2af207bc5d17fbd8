"""What students do to notebooks, and the points that it earns."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from nbformat.notebooknode import NotebookNode

from demo.commands import Finished
from tests.conftest import DOUBLE, Course, nbgrader_cell, notebook_of

RIGHT = "def double(x):\n    return 2 * x"


def delete_tests(nb: Any) -> None:
    """Answer, and delete every locked cell."""
    nb["cells"][1]["source"] = RIGHT
    nb["cells"] = [cell for cell in nb["cells"] if not is_locked(cell)]


def copy_cells(nb: Any) -> None:
    """Paste the solution and a test a second time, the wrong answer first."""
    nb["cells"][1]["source"] = "def double(x):\n    return x"
    nb["cells"][2:2] = [dict(nb["cells"][1], id="again", source=RIGHT)]
    nb["cells"].append(dict(nb["cells"][-2], id="third", source="pass"))


def is_locked(cell: Any) -> bool:
    return bool(cell["metadata"].get("nbgrader", {}).get("locked"))


def type_in(source: str) -> Callable[[Any], None]:
    def work(nb: Any) -> None:
        nb["cells"][1]["source"] = source

    return work


def drop_solution(nb: Any) -> None:
    del nb["cells"][1]


def drop_everything(nb: Any) -> None:
    nb["cells"] = []


def answer_elsewhere(nb: Any) -> None:
    nb["cells"][1]["metadata"] = {}
    nb["cells"][1]["source"] = RIGHT


def tag_tests(nb: Any) -> None:
    for cell in nb["cells"][2:]:
        cell["metadata"]["tags"] = ["skip-execution"]


def change_tests(nb: Any) -> None:
    nb["cells"][2]["source"] = "pass"
    nb["cells"][3]["metadata"]["nbgrader"]["points"] = 300
    nb["cells"][3]["cell_type"] = "raw"
    del nb["cells"][3]["outputs"], nb["cells"][3]["execution_count"]


def flag(index: int, **flags: object) -> Callable[[Any], None]:
    """Answer, and change the nbgrader metadata of one cell."""

    def work(nb: Any) -> None:
        nb["cells"][1]["source"] = RIGHT
        nb["cells"][index]["metadata"]["nbgrader"].update(flags)

    return work


def replace_metadata(nb: Any) -> None:
    nb["cells"][1]["source"] = RIGHT
    nb["cells"][2]["metadata"]["nbgrader"] = []


def paste_from_elsewhere(nb: Any) -> None:
    """Answer, and paste a test of another assignment."""
    nb["cells"][1]["source"] = RIGHT
    other = copy.deepcopy(nb["cells"][2])
    other["id"] = other["metadata"]["nbgrader"]["grade_id"] = "bonus"
    nb["cells"].append(other)


def drop_ids(nb: Any) -> None:
    """Answer, delete a test, and save in an older format, without cell ids."""
    nb["cells"][1]["source"] = RIGHT
    del nb["cells"][2]
    for cell in nb["cells"]:
        del cell["id"]
    nb["nbformat_minor"] = 4


#: student -> (what they do, points per test, a part of what the log says).
WORK: dict[str, tuple[Callable[[Any], None], tuple[float, float], str]] = {
    "right": (type_in(RIGHT), (2, 3), ""),
    "untouched": (lambda nb: None, (0, 0), ""),
    "warns": (
        type_in(
            f"import sys\n{RIGHT.replace('return', 'sys.stderr.write(str(x)); return')}"
        ),
        (2, 3),
        "",
    ),
    "deletes": (
        delete_tests,
        (2, 3),
        "cell 'test_hidden' was missing. It is back for grading",
    ),
    "copies": (copy_cells, (2, 3), "cell 'double' was there more than once"),
    "nosolution": (drop_solution, (0, 0), "the solution cell 'double' is missing"),
    "nothing": (drop_everything, (0, 0), "cell 'imports' was missing"),
    "elsewhere": (answer_elsewhere, (2, 3), "the solution cell 'double' is missing"),
    "tags": (tag_tests, (0, 0), ""),
    "changes": (change_tests, (0, 0), "locked cell 'test_visible' was changed"),
    "crashes": (
        type_in("import os\ndef double(x):\n    os._exit(0)"),
        (0, 0),
        "Kernel died",
    ),
    "endless": (type_in("def double(x):\n    while True: pass"), (0, 0), ""),
    "deaf": (
        type_in(
            "import signal\ndef double(x):\n"
            "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n    while True: pass"
        ),
        (0, 0),
        "",
    ),
    "floods": (
        type_in(f"{RIGHT}\nprint('x' * 5_000_000)\nassert not 'y' * 5_000_000"),
        (2, 3),
        "",
    ),
    "spams": (
        type_in("def double(x):\n    while True: print('y' * 100_000)"),
        (0, 0),
        "",
    ),
    "newer": (flag(2, schema_version=99), (2, 3), ""),
    "older": (flag(2, schema_version=1), (2, 3), ""),
    "solution": (flag(2, solution=True), (2, 3), "locked cell 'test_visible'"),
    "grade": (flag(1, grade=True, points=7), (2, 3), ""),
    "unlocked": (flag(2, locked=False), (2, 3), ""),
    "list": (replace_metadata, (2, 3), "cell 'test_visible' was missing"),
    "pastes": (paste_from_elsewhere, (2, 3), ""),
    "noids": (drop_ids, (2, 3), "cell 'test_visible' was missing"),
    "slow": (
        type_in(f"import time\n{RIGHT}\nfor _ in range(2): time.sleep(1)"),
        (2, 3),
        "",
    ),
}


@pytest.fixture(scope="module")
def graded(new_course: Callable[[], Course]) -> tuple[Course, Finished]:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    for student, (work, _, _) in WORK.items():
        notebook = course.hand_out("ps", student) / "p.ipynb"
        nb = json.loads(notebook.read_text())
        work(nb)
        notebook.write_text(json.dumps(nb))
    (done,) = course.nbgrader("autograde ps --Execute.timeout=3")
    assert done.status == 0, done.log
    return course, done


@pytest.mark.parametrize("student", WORK)
def test_points(graded: tuple[Course, Finished], student: str) -> None:
    course, done = graded
    _, (visible, hidden), said = WORK[student]
    assert course.scores(student, "ps") == {
        "test_visible": visible,
        "test_hidden": hidden,
    }, done.log
    assert said in done.log


@pytest.mark.parametrize(
    ("student", "sentences"),
    [
        (
            "crashes",
            [
                "The kernel ended itself with exit status",
                "An earlier cell ended the run",
            ],
        ),
        ("endless", ["double took longer than a test may wait for it"] * 2),
        # The interrupt works; what was printed may take longer to arrive.
        ("spams", ["double took longer than", ""]),
        (
            "deaf",
            ["did not come to rest when interrupted", "An earlier cell ended the run"],
        ),
    ],
)
def test_what_stopped_the_run_stands_in_the_notebook(
    graded: tuple[Course, Finished], student: str, sentences: list[str]
) -> None:
    course, _ = graded
    text = (course.root / "autograded" / student / "ps" / "p.ipynb").read_text()
    tests = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"][-2:]
    for cell, sentence in zip(tests, sentences, strict=True):
        (error,) = (o for o in cell["outputs"] if o["output_type"] == "error")
        assert sentence in error["evalue"]


def test_one_long_line_does_not_fill_the_notebook(
    graded: tuple[Course, Finished],
) -> None:
    course, _ = graded
    path = course.root / "autograded" / "floods" / "ps" / "p.ipynb"
    assert path.stat().st_size < 1_600_000
    assert "the rest was too long and is left out" in path.read_text()


def test_kernels_say_nothing_of_their_ports(graded: tuple[Course, Finished]) -> None:
    _, done = graded
    assert "TCP" not in done.log


def test_source_with_an_empty_test(new_course: Callable[[], Course]) -> None:
    course = new_course()
    empty = nbgrader_cell("test", "empty", "  ", 1)
    course.write_source("ps", "p", notebook_of(*DOUBLE.cells, empty))
    (done,) = course.nbgrader("generate_assignment ps")
    assert done.status == 1
    assert "source/ps/p.ipynb: test cell 5 is empty" in done.log


def test_source_with_a_duplicate_grade_id(new_course: Callable[[], Course]) -> None:
    course = new_course()
    nb = notebook_of(*DOUBLE.cells, NotebookNode(DOUBLE.cells[2], id="again"))
    course.write_source("ps", "p", nb)
    (done,) = course.nbgrader("generate_assignment ps")
    assert done.status == 1
    assert "source/ps/p.ipynb: a grade_id must be unique" in done.log
    assert "'test_visible' in cells 3, 5" in done.log
    assert "`nbgrader generate_assignment ps --force`" in done.log
    assert not (course.root / "release" / "ps").exists(), "nothing half-made is left"


#: student -> the answer they give to an assignment whose tests end in values.
PARTIAL = {
    "right": RIGHT,
    "loud": "def double(x):\n    print('x' * 1_000_000)\n    return 0",
    "forger": (
        "class TestCellError(Exception): pass\n"
        "def double(x): raise TestCellError('the author erred')"
    ),
}


@pytest.fixture(scope="module")
def partial(new_course: Callable[[], Course]) -> Course:
    """An assignment whose tests end in values, graded for three answers."""
    course = new_course()
    half = "import numpy as np\nnp.float64(0.5) if double(2) == 4 else 0.25"
    cells = [
        DOUBLE.cells[1],
        nbgrader_cell("test", "half", half, 2),
        nbgrader_cell("test", "toomuch", "double(4)", 2),
    ]
    course.write_source("ps", "p", notebook_of(*cells))
    course.nbgrader("generate_assignment ps")
    for student, answer in PARTIAL.items():
        notebook = course.hand_out("ps", student) / "p.ipynb"
        nb = json.loads(notebook.read_text())
        nb["cells"][0]["source"] = answer
        notebook.write_text(json.dumps(nb))
    course.nbgrader("autograde ps")
    return course


def test_partial_credit_from_a_numpy_scalar(partial: Course) -> None:
    assert partial.grades("right", "ps")["half"] == (0.5, 0)


def test_credit_beyond_the_maximum_waits_for_a_human(partial: Course) -> None:
    assert partial.grades("right", "ps")["toomuch"] == (None, 1)


def test_printing_a_lot_does_not_hide_the_score(partial: Course) -> None:
    assert partial.grades("loud", "ps") == {"half": (0.25, 0), "toomuch": (0, 0)}


def test_no_error_of_a_students_passes_for_the_authors(partial: Course) -> None:
    assert partial.grades("forger", "ps") == {"half": (0, 0), "toomuch": (0, 0)}


def test_the_notebook_has_a_limit_of_its_own(new_course: Callable[[], Course]) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    notebook = course.hand_out("ps", "slow") / "p.ipynb"
    nb = json.loads(notebook.read_text())
    nb["cells"][1]["source"] = f"{RIGHT}\nwhile True: pass"
    notebook.write_text(json.dumps(nb))
    course.nbgrader("autograde ps --Limits.wall=1")
    assert set(course.scores("slow", "ps").values()) == {0}
    text = (course.root / "autograded" / "slow" / "ps" / "p.ipynb").read_text()
    assert "The notebook used up its 1 s." in text
