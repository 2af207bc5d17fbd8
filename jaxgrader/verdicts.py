"""What a test cell's outputs are worth, and how nbgrader is told.

nbgrader 0.9.6 grades by reading a test cell's outputs: *no* output is full marks, and
so is a value that is not a number (a JAX scalar, say), while one line on stderr (a
DeprecationWarning) is zero (`nbgrader.utils.determine_grade`). Here a test cell earns
points only when the kernel replied that the cell ran to its end. That verdict is then
written into the outputs in nbgrader's own vocabulary, so that Validate, autograde, the
formgrader and the feedback all read the same one.

Pure functions of notebook cells; nothing of the student's is evaluated.
"""

import math
import re
from typing import Any

from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_output

NUMBER = r"([+-]?(?:inf|nan|[\d.]+(?:[eE][+-]?\d+)?))"

#: A scalar as Python, NumPy and JAX print it; group 1 is its value. Nothing else that
#: happens to hold a number (a `range`, a plot's `Text`) may pass for a score.
SCALARS = tuple(
    re.compile(pattern)
    for pattern in (
        NUMBER,
        rf"np\.\w+\({NUMBER}\)",
        rf"[Aa]rray\(\s*{NUMBER}(?:,\s*dtype=\w+)?(?:,\s*weak_type=True)?\)",
        r"(True|False)",
        r"np\.(True|False)_",
        r"[Aa]rray\(\s*(True|False)(?:,\s*dtype=bool)?\)",
    )
)


def settle(cell: NotebookNode, unfinished: str | None) -> bool:
    """Write a test cell's verdict into its outputs; return whether the author erred.

    `unfinished` is None for a cell that ran to its end, else why it did not, if known.

    nbgrader (`nbgrader.utils.determine_grade`) gives zero for an error output or text
    on stderr, a number that is the cell's value as partial credit, and full marks in
    every other case. So: text on stderr is shown as ordinary text; a scalar value is
    spelled as Python spells a float; a cell that did not complete gets an error.
    """
    if unfinished is not None and not has_error(cell):
        add_error(cell, "NotExecutedError", unfinished or NOT_EXECUTED)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"
    values = [o for o in cell.outputs if o.output_type == "execute_result"]
    no_score = not has_error(cell) and any(
        [settle_value(cell, output) for output in values]
    )
    if has_error(cell):
        # nbgrader would take a score that stands before the error.
        for output in values:
            as_plain_output(output)
    return no_score


def settle_value(cell: NotebookNode, output: NotebookNode) -> bool:
    """Turn a test cell's value into partial credit, a verdict, or plain output.

    Returns whether it is a number that is no score, which is the author's fault.
    """
    text = str(output.data.get("text/plain", "")).strip()
    matches = (scalar.fullmatch(text) for scalar in SCALARS)
    value = next((match[1] for match in matches if match), "True")
    if value in ("True", "False"):
        as_plain_output(output)
        if value == "False":
            add_error(cell, "AssertionError", FALSE_VALUE)
        return False
    points = float(cell.metadata.nbgrader.points)
    score = as_score(value)
    if math.isfinite(score) and 0 <= score <= points:
        output.data["text/plain"] = repr(score)
        return False
    add_error(cell, "TestCellError", BAD_CREDIT.format(value=value, points=points))
    return True


def as_score(text: str) -> float:
    """Return the number that `text` spells, NaN where it spells none (1.2.3)."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def as_plain_output(output: NotebookNode) -> None:
    """Show a value without its being read as a score."""
    output.output_type = "display_data"
    output.pop("execution_count", None)


def show_score(cell: NotebookNode, score: float) -> None:
    """Append partial credit, as nbgrader reads it: a float as the cell's value."""
    data = {"text/plain": repr(score)}
    cell.outputs.append(new_output("execute_result", data=data, execution_count=None))


def has_error(cell: NotebookNode) -> bool:
    """Whether a cell shows an error."""
    return any(output.output_type == "error" for output in cell.outputs)


def add_error(cell: NotebookNode, ename: str, sentence: str) -> None:
    """Append an error output that reads as one sentence."""
    cell.setdefault("outputs", []).append(
        new_output("error", ename=ename, evalue=sentence, traceback=[sentence])
    )


def add_note(cell: NotebookNode, sentence: str) -> None:
    """Append a line of text that changes no verdict."""
    cell.outputs.append(new_output("stream", name="stdout", text=sentence + "\n"))


def limit_output(kind: str, content: dict[str, Any], room: int) -> int:
    """Cut a message's content to `room` characters; return the room that is left.

    Negative: the limit is reached, and the content ends with a note that says so.
    """
    if kind == "stream":
        length = len(content["text"])
        if length > room:
            content["text"] = content["text"][:room] + CUT
    elif kind == "error":
        # The message is what matters; a long traceback is dropped for it.
        content["evalue"] = content["evalue"][:room]
        length = len(content["evalue"]) + sum(map(len, content["traceback"]))
        if length > room:
            content["traceback"] = [f"{content['ename']}: {content['evalue']}{CUT}"]
    else:
        data = content["data"]
        length = sum(len(str(value)) for value in data.values())
        if length > room:
            text = str(data.get("text/plain", ""))[:room]
            data.clear()
            data["text/plain"] = text + CUT
    return room - length if length <= room else -1


NOT_EXECUTED = "This test did not run to its end."
FALSE_VALUE = "The value of this test is False."
BAD_CREDIT = (
    "The value of this test, {value}, is no score between 0 and {points:g}. "
    "The fault is in the test, not in the answer: it needs manual grading."
)
CUT = "\n[... the rest was too long and is left out]"
