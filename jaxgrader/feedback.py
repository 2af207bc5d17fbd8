"""What a student reads of the tests, in the feedback.

What it is: a step of generate_feedback. Hidden tests become one line each, and tell
their outcome and nothing else; visible tests tell what was got and expected; a test
that failed shows the hints that its author attached. What may be said stands in the
cell, and in its metadata for the page's summary. What it is not: what makes the page
safe to open (`pages.py`).

Guarantees: no text of a hidden region, and nothing that the student's process wrote
once a hidden test may have called it: it may have kept the test's inputs. Where it
cannot tell what was hidden, it hides.
"""

import ast
import builtins
import re
from dataclasses import dataclass
from typing import Any

import nbgrader.preprocessors as stock
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from traitlets import List
from traitlets.config import Config

from jaxgrader.grading.runner import is_test
from jaxgrader.preprocessors import Resources, Step, grade_id_of
from jaxgrader.results import Outcome


@dataclass(frozen=True)
class Region:
    """Lines that only the staff reads, between two markers."""

    begin: str
    end: str

    def spans(self, source: str) -> list[tuple[int, int]]:
        """Return where the regions are, as lines of a cell, markers included.

        A region without end goes to the end. One that holds hints, and nothing that
        runs, hides no test and is none.
        """
        found, start = [], None
        lines = source.split("\n")
        for number, line in enumerate(lines):
            if start is None and self.begin in line:
                start = number
            if start is not None and self.end in line:
                found.append((start, number + 1))
                start = None
        if start is not None:
            found.append((start, len(lines)))
        return found

    def hides(self, source: str) -> list[tuple[int, int]]:
        """Return where regions are that hold anything but hints."""
        lines = source.split("\n")
        return [
            span for span in self.spans(source) if not only_hints(lines[slice(*span)])
        ]

    def cut(self, source: str, note: str) -> str:
        """Replace each such region of a cell by a note; hints go without one."""
        lines: list[str | None] = [*source.split("\n")]
        hidden = {start for start, _ in self.hides(source)}
        for start, end in self.spans(source):
            line = lines[start] or ""
            indent = line[: len(line) - len(line.lstrip())]
            lines[start:end] = [None] * (end - start)
            if start in hidden:
                lines[start] = indent + note
        return "\n".join(
            line for line in lines if line is not None and self.end not in line
        )

    def lines(self, source: str) -> list[str]:
        """Return the lines within the regions of a cell."""
        lines = source.split("\n")
        return [
            line.strip()
            for start, end in self.spans(source)
            for line in lines[start:end]
            if self.begin not in line and self.end not in line
        ]

    def first(self, source: str) -> int | None:
        """Return the number of the line in which the first hidden test begins."""
        return next((start + 1 for start, _ in self.hides(source)), None)


def only_hints(region: list[str]) -> bool:
    """Whether a region, its markers included, is comments that begin with a hint."""
    inner = [line.strip() for line in region[1:-1] if line.strip()]
    return (
        bool(inner)
        and HINT.match(inner[0]) is not None
        and all(line.strip().startswith("#") for line in region if line.strip())
    )


class HideTests(stock.NbGraderPreprocessor):
    """First step of generate_feedback: leave out what only the staff may see."""

    #: nbconvert sets it for all steps of a page, and warns where it is not declared.
    display_data_priority: Any = List().tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Rewrite the tests of `nb`, and all that may tell of a hidden one."""
        config = Config(self.config)
        config.pop("NbConvertBase", None)  # nbgrader's steps would warn of it
        tests = stock.ClearHiddenTests(config=config)
        self.tests = Region(tests.begin_test_delimeter, tests.end_test_delimeter)
        scheme = stock.ClearMarkScheme(config=config)
        self.scheme = Region(
            scheme.begin_mark_scheme_delimeter, scheme.end_mark_scheme_delimeter
        )
        sources, wanted, self.waiting = self.read_gradebook(resources)
        #: Whether what the student's code shows from here on may tell of a hidden test.
        self.told = not wanted <= {grade_id_of(cell) for cell in nb.cells}
        secret = {line for source in sources.values() for line in self.secrets(source)}
        for cell in nb.cells:
            self.rewrite(cell, sources.get(grade_id_of(cell) or ""), secret)
        return nb, resources

    def read_gradebook(
        self, resources: Resources
    ) -> tuple[dict[str, str], set[str], set[str]]:
        """Return the author's cells by their grade_ids, which of them are graded, and
        which of these wait for a human."""
        ids = resources["nbgrader"]
        names = ids["notebook"], ids["assignment"]
        with Gradebook(ids["db_url"]) as gradebook:
            notebook = gradebook.find_notebook(*names)
            sources = {cell.name: cell.source or "" for cell in notebook.source_cells}
            wanted = {cell.name for cell in notebook.grade_cells}
            submitted = gradebook.find_submission_notebook(*names, ids["student"])
            waiting = {g.name for g in submitted.grades if g.needs_manual_grade}
            return sources, wanted, waiting

    def secrets(self, source: str) -> list[str]:
        """Return the lines of a cell that only the staff reads, blank ones left out."""
        lines = self.tests.lines(source) + self.scheme.lines(source)
        return [line for line in lines if line]

    def rewrite(
        self, cell: NotebookNode, original: str | None, secret: set[str]
    ) -> None:
        """Rewrite one cell; `original` is the author's, where it is the author's."""
        if original and self.secrets(original) and not self.secrets(cell.source):
            cell.source = original
        source = cell.source
        if self.told and original is None:
            # Some test has lost its metadata. It may be this one.
            lines = source.split("\n")
            source = "\n".join(line for line in lines if line.strip() not in secret)
        code = cell.cell_type == "code"
        note = HIDDEN_HERE if code else NOT_SHOWN
        if code and (own := description(self.tests.lines(source))):
            note = HIDDEN_TEST.format(description=own)
        cell.source = self.tests.cut(source, note)
        cell.source = self.scheme.cut(
            cell.source, f"# {NOT_SHOWN}" if code else NOT_SHOWN
        )
        told = self.rewrite_outputs(cell, source) if code else {}
        if grade_id_of(cell) in self.waiting:
            told["waiting"] = True
        cell.metadata["jaxgrader"] = told

    def rewrite_outputs(self, cell: NotebookNode, source: str) -> dict[str, Any]:
        """Show what came of a code cell; `source` is its text with hidden regions.

        Returns what a summary may say of it.
        """
        first = self.tests.first(source)
        if not is_test(cell):
            if self.told or first is not None:
                withhold(cell)
            return {}
        record = cell.metadata.get("jaxgrader")
        above = source.split("\n")[: first - 1] if first is not None else []
        about = description(self.tests.lines(source)) or description(above)
        told = self.summary(source, record, about)
        if record is None or (
            first is not None and not fails_before(first, source, record)
        ):
            self.told = True
            said = tell("hidden test", cell, record)
            show(cell, f"{said}\nIt is about: {about}" if about else said)
        elif self.told:
            said, where = tell("test", cell, record), statement_at(source, record)
            later = "" if record.get("outcome") == Outcome.PASSED else LATER
            show(cell, "\n".join(filter(None, [said, where, later])))
            said = " ".join(filter(None, [said, later]))
        else:
            said = show_visible(cell, statement_at(source, record))
            if compared := record.get("compared"):
                told["compared"] = compared
        return told | {"sentence": said}

    def summary(
        self, source: str, record: dict[str, Any] | None, about: str
    ) -> dict[str, Any]:
        """Return what may be said of any test: its outcome, and the author's words."""
        outcome = (record or {}).get("outcome", "")
        top = top_of(self.tests.cut(source, ""))
        hints = apart(top)[0] + apart(self.tests.lines(source))[0]
        told = {"outcome": outcome, "about": about or description(top)}
        if outcome in TOLD and outcome not in (Outcome.PASSED, Outcome.INTERNAL):
            told["hints"] = [hint[:LONGEST_HINT] for hint in hints[:HINTS]]
        return told


def description(lines: list[str]) -> str:
    """Return what the author says of a test at its top: comments, or a docstring."""
    _, rest = apart(lines)
    text = "\n".join(rest).strip()
    said = []
    for line in text.split("\n"):
        words = line.strip().lstrip("#").strip()
        if not line.strip().startswith("#") or not words or is_code(words):
            break
        said.append(words)
    docstring = re.match(r"""[rR]?('''|\"""|'|")(.+?)(\1|\n)""", text)
    if not said and docstring:
        said = [docstring[2].strip()]
    return " ".join(said)[:300]


def apart(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return the author's hints among lines, and the other lines.

    A hint goes on in the comments that follow, up to an empty one, or another hint.
    """
    hints: list[str] = []
    rest = []
    inside = False
    for line in lines:
        start = HINT.match(line.strip())
        words = line.strip().lstrip("#").strip()
        inside = start is not None or (
            inside and line.strip().startswith("#") and bool(words)
        )
        if start is not None:
            hints.append(start[1])
        elif inside:
            hints[-1] += " " + words
        else:
            rest.append(line)
    return hints, rest


def top_of(source: str) -> list[str]:
    """Return the comments at the top of a cell."""
    lines = source.strip().split("\n")
    codes = (n for n, line in enumerate(lines) if line and not line.startswith("#"))
    return lines[: next(codes, len(lines))]


def is_code(words: str) -> bool:
    """Whether a comment is code that was taken out."""
    try:
        nodes = list(ast.walk(ast.parse(words)))
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, CODE) for node in nodes)


#: What prose that happens to be Python does not have.
CODE = (ast.Assign, ast.AugAssign, ast.Assert, ast.Call, ast.Compare, ast.Import)


def fails_before(first: int, source: str, record: dict[str, Any]) -> bool:
    """Whether a test failed before its hidden region began.

    The whole statement must end before that: one that began before may raise, in the
    end, for what is hidden.
    """
    node = node_at(source, record, outermost=True)
    return node is not None and (node.end_lineno or first) < first


def node_at(
    source: str, record: dict[str, Any], outermost: bool = False
) -> ast.stmt | None:
    """Return the statement that failed; None where that is not known for certain."""
    line = record.get("line")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None  # magics: IPython may count its lines otherwise
    if not isinstance(line, int):
        return None
    # IPython leaves out blank lines at the top.
    line += len(source) - len(source.lstrip("\n")) if source.startswith("\n") else 0
    nodes = [
        node
        for node in (tree.body if outermost else ast.walk(tree))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(nodes, key=lambda node: node.lineno, default=None)


def statement_at(source: str, record: dict[str, Any]) -> str:
    """Return the lines of a test that failed; nothing where that is not known."""
    node = node_at(source, record)
    if node is None:
        return ""
    lines = source.split("\n")[node.lineno - 1 : node.end_lineno]
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    text = "\n".join(f"    {line[indent:]}" for line in lines[:LINES])
    return f"Line {node.lineno} of the test:\n\n{text}\n"


def tell(what: str, cell: NotebookNode, record: dict[str, Any] | None) -> str:
    """Return the outcome of a test in words that hold nothing of its run."""
    outcome, sentence = "", ""
    if record is not None:
        outcome, sentence = record.get("outcome", ""), record.get("sentence", "")
    values = [o for o in cell.outputs if o.output_type == "execute_result"]
    if outcome == Outcome.FAILED and not sentence and values:
        outcome = "part"
    return TOLD.get(outcome, UNKNOWN).format(what=what, kind=kind_of(sentence))


def kind_of(sentence: str) -> str:
    """Return how to name an error of the student's code: by a built-in type or not.

    A name that the student's code chooses could hold a test's inputs.
    """
    match = re.match(r"(\w+)(?:: |\n|$)", sentence)
    kind = getattr(builtins, match[1], None) if match else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        return f"raised {kind.__name__}"
    return "raised an error, or returned what a test cannot take"


def show(cell: NotebookNode, text: str) -> None:
    """Replace all that a cell shows by a text of ours."""
    cell.outputs = [new_output("stream", name="stdout", text=text + "\n")]


def show_visible(cell: NotebookNode, where: str) -> str:
    """Show why a visible test failed: its own lines, the student's, and the message.

    Returns the message; nothing where none tells more than the score.
    """
    errors = [o for o in cell.outputs if o.output_type == "error"]
    if not errors:
        return ""
    record, last = cell.metadata["jaxgrader"], errors[-1]
    what = record["sentence"] if record["protected"] else f"{last.ename}: {last.evalue}"
    text = re.sub(r"^Student\w+: ", "", what).strip() or FAILED
    shown = f"{where}\n{text}" if where else text
    error = new_output("error", ename=last.ename, evalue=text, traceback=[shown])
    others = [o for o in cell.outputs if o.output_type != "error"]
    cell.outputs = [*others, error]
    return text


def withhold(cell: NotebookNode) -> None:
    """Leave out what a cell has shown, its number included: the kernel chose it."""
    cell.execution_count = None
    if cell.get("outputs"):
        show(cell, WITHHELD)


#: Lines of a statement that are shown; hints of a test, and characters of one.
LINES, HINTS, LONGEST_HINT = 20, 5, 600
#: A comment that an author attaches to a test, for those who fail it.
HINT = re.compile(r"#\s*Hint:\s*(\S.*)", re.IGNORECASE)
NOT_SHOWN = "[Not shown.]"
HIDDEN_HERE = "# [A hidden test stands here.]"
HIDDEN_TEST = "# [A hidden test stands here: {description}]"
FAILED = "This test failed."
#: By outcome: what may be said of a test whose details may not.
TOLD = {
    Outcome.PASSED: "This {what} passed.",
    Outcome.FAILED: "This {what} failed.",
    "part": "This {what} gave a part of its points.",
    Outcome.ERROR: "This {what} failed: your code {kind}.",
    Outcome.TIMEOUT: (
        "This {what} failed: your code, here or in an earlier cell, took longer than "
        "it may. Is there an endless loop?"
    ),
    Outcome.MEMORY: (
        "This {what} failed: your code, here or in an earlier cell, used more memory "
        "than it may."
    ),
    Outcome.CRASHED: (
        "This {what} failed: the kernel that your code ran on, here or in an earlier "
        "cell, died or stopped answering."
    ),
    Outcome.INTERNAL: (
        "This {what} could not be judged. It is not your fault: your instructors grade "
        "it by hand."
    ),
}
UNKNOWN = "What became of this {what} was not recorded. Ask your instructors."
LATER = (
    "What it got is not shown, since a hidden test ran before it. Validate in your "
    "notebook shows it."
)
WITHHELD = "[Not shown: this cell ran after a hidden test.]"
