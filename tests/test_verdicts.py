"""What a test cell's outputs are worth."""

import copy
from typing import Any

import pytest
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_output
from nbgrader.utils import determine_grade

from jaxgrader.verdicts import CUT, limit_output, settle
from tests.conftest import nbgrader_cell


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
            ([value("Text(0.5, 1.0, 'loss')")], 2),
            ([value("range(0, 3)")], 2),
            ([value("Fraction(1, 2)")], 2),
            ([value("0.5)")], 2),
            ([value("np.str_('0.5')")], 2),
            ([value("array(0.5, dtype=float32)")], 0.5),
            ([value("Array([1., 2.], dtype=float32)")], 2),
        ],
    )
    def test_completed(self, outputs: list[NotebookNode], score: float) -> None:
        cell = a_test_cell(*(NotebookNode(output) for output in outputs))
        assert not settle(cell, None)
        assert determine_grade(cell) == (score, 2)

    @pytest.mark.parametrize(
        "text",
        ["2.5", "-1", "nan", "inf", "np.float32(nan)", "Array(3., dtype=float32)"],
    )
    def test_value_that_is_no_score_is_the_authors_fault(self, text: str) -> None:
        cell = a_test_cell(value(text))
        assert settle(cell, None)
        assert determine_grade(cell) == (0, 2)

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
    """Each message is cut to what is left; the note comes once, and room ends."""

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("stream", {"text": "0123456789"}),
            ("error", {"ename": "E", "evalue": "01234", "traceback": ["56", "789"]}),
            ("display_data", {"data": {"image/png": "012345", "text/plain": "6789"}}),
        ],
    )
    def test_what_fits_is_kept(self, kind: str, content: dict[str, Any]) -> None:
        before = copy.deepcopy(content)
        assert limit_output(kind, content, 10) == 0
        assert content == before

    def test_stream(self) -> None:
        content = {"text": "0123456789"}
        assert limit_output("stream", content, 4) < 0
        assert content == {"text": "0123" + CUT}

    def test_error_keeps_its_message(self) -> None:
        content = {"ename": "E", "evalue": "short", "traceback": ["long" * 10]}
        assert limit_output("error", content, 10) < 0
        assert content["evalue"] == "short"
        assert content["traceback"] == ["E: short" + CUT]

    def test_plot_gives_way_to_its_text(self) -> None:
        content = {"data": {"image/png": "x" * 11, "text/plain": "Figure"}}
        assert limit_output("display_data", content, 10) < 0
        assert content == {"data": {"text/plain": "Figure" + CUT}}
