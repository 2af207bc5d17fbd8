"""What Validate tells a student of a test that failed: in words, then where to look.

The tests have run in the student's own kernel, as they stand in the notebook. Stock
nbgrader shows IPython's traceback, of which most lines are JAX's and ours, and an
`assert` without a message shows nothing but its name. Here, the first line says what is
wrong; then come the test's statement, the last line of the student's own that was at
work, and the author's hints.
"""

import re
import textwrap

from nbformat.notebooknode import NotebookNode
from nbgrader import preprocessors as stock

from jaxgrader.feedback import apart, description, statement_at, top_of
from jaxgrader.grading.runner import is_test
from jaxgrader.preprocessors import Resources, Step

#: A notebook's cell in a traceback of IPython's: which execution, which line of it.
FRAME = re.compile(r"Cell In\[(\d+)\], line (\d+)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
#: nbgrader's command cuts lines of 76 characters, after it has indented them by four.
WIDTH = 70

FALSE = "What this test claims does not hold."
RAISED = "{where} raised {error}"
HERE, THERE = "The test", "Your code"
MISSING = (
    "{name!r} is not defined. Has the cell that defines it failed, does it come later, "
    "or does it use another name?"
)


class SayWhy(stock.NbGraderPreprocessor):
    """Put a sentence in the place of each failed test's traceback."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Rewrite the errors of the tests in `nb`, which has just been executed."""
        cells = {
            cell.execution_count: cell
            for cell in nb.cells
            if cell.cell_type == "code" and cell.get("execution_count")
        }
        for cell in filter(is_test, nb.cells):
            for output in cell.outputs:
                # An outcome of ours (a limit, a dead kernel) is a sentence already.
                if output.output_type == "error" and len(output.traceback) > 1:
                    output.traceback = [explained(cell, output, cells)]
        return nb, resources


def explained(
    test: NotebookNode, error: NotebookNode, cells: dict[int, NotebookNode]
) -> str:
    """Return why a test failed, for the person whose notebook it is."""
    trace = ANSI.sub("", "\n".join(error.traceback))
    frames = [(int(count), int(line)) for count, line in FRAME.findall(trace)]
    own = [line for count, line in frames if cells.get(count) is test]
    theirs = [
        (cells[count], line)
        for count, line in frames
        if count in cells and not is_test(cells[count])
    ]
    parts = [wrapped(sentence_of(error, bool(theirs)))]
    top = top_of(test.source)
    if about := description(top):
        parts.append(wrapped(f"The test is about: {about}"))
    if own:
        parts.append(statement_at(test.source, {"line": own[0]}).rstrip())
    if theirs:
        cell, line = theirs[-1]
        text = (cell.source.split("\n")[line - 1 : line] or [""])[0].strip()
        parts.append(f"Your code was at line {line} of its cell:\n\n    {text}")
    parts += [wrapped(f"Hint: {hint}") for hint in apart(top)[0]]
    return "\n\n".join(filter(None, parts))


def sentence_of(error: NotebookNode, in_theirs: bool) -> str:
    """Return in words what an error says."""
    said = error.evalue.strip()
    if error.ename == "AssertionError":
        return said or FALSE
    missing = re.match(r"name '(\w+)' is not defined", said)
    if missing and not in_theirs:
        return MISSING.format(name=missing[1])
    named = ": ".join(filter(None, (error.ename, said)))
    return RAISED.format(where=THERE if in_theirs else HERE, error=named)


def wrapped(text: str) -> str:
    """Return a text in lines that fit; short ones, as those of tables, stay."""
    return "\n".join(
        textwrap.fill(line, WIDTH) if len(line) > WIDTH else line
        for line in text.split("\n")
    )
