"""Verdicts: what a test cell's outputs are worth, and what students do to notebooks."""

import copy
import json
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_output
from nbgrader.utils import determine_grade

from demo.commands import Finished
from jaxgrader.errors import PlatformError
from jaxgrader.preprocessors import (
    TEST_CELL_ERROR,
    LimitOutput,
    require_platform,
    settle,
)
from tests.conftest import DOUBLE, Course, nbgrader_cell, notebook_of


def a_test_cell(*outputs: NotebookNode) -> NotebookNode:
    cell = nbgrader_cell("test", "t", "...", 2)
    cell.outputs = list(outputs)
    return cell


def value(text: str) -> NotebookNode:
    output: NotebookNode = new_output(
        "execute_result", {"text/plain": text}, execution_count=1
    )
    return output


STDERR = new_output("stream", name="stderr", text="DeprecationWarning: .value\n")
ERROR = new_output("error", ename="ValueError", evalue="no", traceback=["no"])


class TestSettle:
    """nbgrader must read our verdict from the outputs."""

    @pytest.mark.parametrize(
        ("outputs", "score"),
        [
            ([], 2),
            ([STDERR], 2),
            ([ERROR], 0),
            ([value("1")], 1),
            ([value("0.5")], 0.5),
            ([value("np.float64(0.5)")], 0.5),
            ([value("Array(0.5, dtype=float32)")], 0.5),
            ([value("Array(1, dtype=int32, weak_type=True)")], 1),
            ([STDERR, value("np.float32(1.5)")], 1.5),
            ([value("0")], 0),
            ([value("True")], 2),
            ([value("np.True_")], 2),
            ([value("np.False_")], 0),
            ([value("Array(False, dtype=bool)")], 0),
            ([value("'done'")], 2),
            ([value("Array([1., 2.], dtype=float32)")], 2),
        ],
    )
    def test_completed(self, outputs: list[NotebookNode], score: float) -> None:
        cell = a_test_cell(*(NotebookNode(output) for output in outputs))
        settle(cell, None)
        assert determine_grade(cell) == (score, 2)

    @pytest.mark.parametrize(
        "text",
        ["2.5", "-1", "nan", "inf", "np.float32(nan)", "Array(3., dtype=float32)"],
    )
    def test_value_that_is_no_score_is_the_authors_fault(self, text: str) -> None:
        cell = a_test_cell(value(text))
        settle(cell, None)
        assert determine_grade(cell) == (0, 2)
        assert cell.outputs[-1].ename == TEST_CELL_ERROR

    @pytest.mark.parametrize("outputs", [[], [STDERR], [value("2")], [value("'x'")]])
    def test_unfinished_earns_nothing(self, outputs: list[NotebookNode]) -> None:
        cell = a_test_cell(*(NotebookNode(output) for output in outputs))
        settle(cell, "The kernel died.")
        assert determine_grade(cell) == (0, 2)
        assert "The kernel died." in [o.get("evalue") for o in cell.outputs]

    def test_what_was_printed_is_kept(self) -> None:
        cell = a_test_cell(NotebookNode(STDERR))
        settle(cell, None)
        assert cell.outputs[0].text == STDERR.text


class TestLimitOutput:
    """Within the limit nothing changes; beyond it the notebook stays valid."""

    def limited(self, *outputs: NotebookNode) -> list[NotebookNode]:
        step = LimitOutput(max_characters=10)
        cell, _ = step.preprocess_cell(a_test_cell(*outputs), {}, 0)
        nbformat.validate(notebook_of(cell))
        return list(cell.outputs)

    def test_short_output_is_kept(self) -> None:
        outputs = [new_output("stream", text="0123"), value("456789")]
        assert self.limited(*copy.deepcopy(outputs)) == outputs

    def test_the_limit_is_the_cells(self) -> None:
        stream, error = self.limited(
            new_output("stream", text="0123456"),
            new_output("error", ename="E", evalue="789abc", traceback=["789", "abc"]),
        )
        assert stream.text == "0123456"
        assert error.evalue.startswith("789\n[... 3 more")
        assert error.traceback[1].startswith("\n[... 3 more")

    def test_plot_that_is_too_long_is_left_out(self) -> None:
        plot = new_output("display_data", {"image/png": "x" * 11, "text/plain": "Fig"})
        (output,) = self.limited(plot)
        assert output.data == {"text/plain": "Fig"}
        (output,) = self.limited(new_output("display_data", {"image/png": "x" * 11}))
        assert "image/png was too long" in output.data["text/plain"]


def test_platform_that_is_not_there() -> None:
    with pytest.raises(PlatformError, match="JAX finds no 'nosuch' device here"):
        require_platform("nosuch")


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
        ("crashes", ["The kernel died", "An earlier cell ended the run"]),
        ("endless", ["the cell took longer than it may"] * 2),
        ("deaf", ["did not react to an interrupt", "An earlier cell ended the run"]),
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
    assert path.stat().st_size < 150_000
    assert "4900001 more characters were cut here" in path.read_text()


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


@pytest.fixture(scope="module")
def partial(new_course: Callable[[], Course]) -> Course:
    """An assignment whose tests end in values, graded for a right answer."""
    course = new_course()
    cells = [
        DOUBLE.cells[1],
        nbgrader_cell("test", "half", "import numpy as np\nnp.float64(0.5)", 2),
        nbgrader_cell("test", "toomuch", "double(4)", 2),
    ]
    course.write_source("ps", "p", notebook_of(*cells))
    course.nbgrader("generate_assignment ps")
    course.hand_out("ps", "someone")
    notebook = course.root / "submitted" / "someone" / "ps" / "p.ipynb"
    nb = json.loads(notebook.read_text())
    nb["cells"][0]["source"] = RIGHT
    notebook.write_text(json.dumps(nb))
    course.nbgrader("autograde ps")
    return course


def test_partial_credit_from_a_numpy_scalar(partial: Course) -> None:
    assert partial.grades("someone", "ps")["half"] == (0.5, 0)


def test_credit_beyond_the_maximum_waits_for_a_human(partial: Course) -> None:
    assert partial.grades("someone", "ps")["toomuch"] == (None, 1)


def test_the_notebook_has_a_limit_of_its_own(new_course: Callable[[], Course]) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    notebook = course.hand_out("ps", "slow") / "p.ipynb"
    nb = json.loads(notebook.read_text())
    nb["cells"][1]["source"] = f"{RIGHT}\nwhile True: pass"
    notebook.write_text(json.dumps(nb))
    course.nbgrader("autograde ps --Execute.submission_timeout=1")
    assert set(course.scores("slow", "ps").values()) == {0}
    text = (course.root / "autograded" / "slow" / "ps" / "p.ipynb").read_text()
    assert "The notebook used up its 1 s." in text
