"""The steps that `nbgrader_config.py` puts in the place of nbgrader's own.

nbgrader 0.9.6 grades by reading a test cell's outputs: *no* output is full marks, and
so is a value that is not a number (a JAX scalar, say), while one line on stderr (a
DeprecationWarning) is zero. Here a test cell earns points only when the kernel replied
that the cell ran to its end. That verdict is then written into the outputs in
nbgrader's own vocabulary, so that Validate, autograde, the formgrader and the feedback
all read the same one.
"""

import functools
import logging
import math
import os
import re
import subprocess
import sys
import time
from typing import Any

import nbgrader.preprocessors as stock
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.corpus.words import generate_corpus_id
from nbformat.notebooknode import NotebookNode, from_dict
from nbformat.v4 import new_output
from nbgrader import utils
from nbgrader.api import Gradebook
from traitlets import Enum, Integer

from jaxgrader.errors import CourseError, PlatformError

Resources = dict[str, Any]
Step = tuple[NotebookNode, Resources]

#: nbgrader's `platform` words, and what JAX calls them in ``JAX_PLATFORMS``.
JAX_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "tpu": "tpu"}

#: The cell metadata that a submission may bring along. Tags may not: nbclient does not
#: run a cell tagged ``skip-execution``, for one.
SUBMITTED_METADATA = {"nbgrader", "deletable", "editable", "collapsed", "scrolled"}

#: A scalar as Python, NumPy and JAX print it: 0.5, np.True_, Array(0.5, dtype=...).
SCALAR = re.compile(
    r"""
    (?: [A-Za-z_][\w.]* \( \s* | np\. )?
    (?P<value> True | False | [+-]? (?: inf | nan | [\d.]+ (?: [eE][+-]?\d+ )? ) )
    _?
    \s* (?: , [^()]* )? \)?
    """,
    re.VERBOSE,
)


class CheckSource(stock.NbGraderPreprocessor):
    """First step of generate_assignment: say what is wrong in the author's words."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Raise `CourseError` where two cells of a source notebook share a grade_id."""
        numbers: dict[str, list[int]] = {}
        for number, cell in enumerate(nb.cells, start=1):
            if is_graded_or_locked(cell):
                numbers.setdefault(cell.metadata.nbgrader.grade_id, []).append(number)
        twice = {name: where for name, where in numbers.items() if len(where) > 1}
        if twice:
            ids = resources["nbgrader"]
            raise CourseError(
                DUPLICATE_GRADE_ID.format(
                    path=f"source/{ids['assignment']}/{ids['notebook']}.ipynb",
                    ids="; ".join(
                        f"{name!r} in cells {', '.join(map(str, where))}"
                        for name, where in twice.items()
                    ),
                    assignment=ids["assignment"],
                )
            )
        return nb, resources


class DeduplicateIds(stock.DeduplicateIds):
    """Keep the last of several cells with one grade_id, as nbgrader does, and say so.

    The earlier ones become plain cells. JupyterLab's copy and paste makes such pairs;
    the notebook runs from top to bottom, so the last definition is the answer.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: Resources, index: int
    ) -> Step:
        if not is_graded_or_locked(cell):
            return cell, resources
        grade_id = cell.metadata.nbgrader.grade_id
        if grade_id in self.grade_ids:
            del cell.metadata["nbgrader"]
            warn(self.log, DUPLICATE_CELL, resources, grade_id=grade_id)
        self.grade_ids.add(grade_id)
        return cell, resources


class RestoreCells(stock.OverwriteCells):
    """Bring the author's cells back: text, points and type, and those that are missing.

    The gradebook has them from generate_assignment. A missing cell goes behind the one
    that precedes it in the source; with nothing before it, to the top. Metadata that is
    not in `SUBMITTED_METADATA` is dropped.
    """

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        for cell in nb.cells:
            for key in set(cell.metadata) - SUBMITTED_METADATA:
                del cell.metadata[key]
        # Stock's own repair stumbles when the cell before the missing one is missing.
        self.add_missing_cells = False
        nb, resources = super().preprocess(nb, resources)
        with Gradebook(self.db_url) as self.gradebook:
            self.restore_missing(nb, resources)
        return nb, resources

    def preprocess_cell(
        self, cell: NotebookNode, resources: Resources, index: int
    ) -> Step:
        # The release's checksum is of the cell as the student got it; the gradebook's
        # is of the cell with its hidden tests, so it always differs.
        released = cell.metadata.get("nbgrader", {}).get("checksum")
        if utils.is_locked(cell) and released != utils.compute_checksum(cell):
            warn(self.log, CHANGED_CELL, resources, grade_id=grade_id_of(cell))
        step: Step = super().preprocess_cell(cell, resources, index)
        return step

    def report_change(self, name: str, attr: str, old: Any, new: Any) -> None:
        if attr != "checksum":
            super().report_change(name, attr, old, new)

    def restore_missing(self, nb: NotebookNode, resources: Resources) -> None:
        """Insert what the source notebook has and `nb` has not, in place."""
        source = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        scored = {cell.name: cell for cell in (*source.grade_cells, *source.task_cells)}
        solutions = {cell.name for cell in source.solution_cells}
        before: str | None = None
        for cell in source.source_cells:
            names = [grade_id_of(submitted) for submitted in nb.cells]
            if cell.name not in names:
                if cell.name in solutions - set(scored):
                    warn(self.log, MISSING_SOLUTION, resources, grade_id=cell.name)
                    continue
                restored = self.as_cell(cell, scored.get(cell.name), solutions)
                if nb.nbformat_minor >= 5:
                    restored.id = generate_corpus_id()
                nb.cells.insert(
                    names.index(before) + 1 if before in names else 0, restored
                )
                warn(self.log, RESTORED_CELL, resources, grade_id=cell.name)
            before = cell.name

    def as_cell(self, source: Any, scored: Any, solutions: set[str]) -> NotebookNode:
        """Return the notebook cell for the gradebook's `SourceCell`.

        `scored` is its `GradeCell` or `TaskCell`, None for a locked set-up cell.
        """
        cell: NotebookNode = from_dict(
            self.missing_cell_transform(
                source,
                scored.max_score if scored else 0,
                is_solution=source.name in solutions,
                is_task=scored is not None and scored.type == "TaskCell",
            )
        )
        cell.source = source.source
        if scored is None:
            cell.metadata.nbgrader.grade = False
            del cell.metadata.nbgrader["points"]
        return cell


class Execute(stock.Execute):
    """Run a notebook on a JAX kernel, and give each test cell its verdict.

    A cell's verdict is positive when the kernel replied "ok" to it and it shows no
    error. A kernel that dies, or does not stop when told to, ends the run: the cells
    that follow did not earn anything, and say why.
    """

    submission_timeout = Integer(
        180,
        min=1,
        help="Seconds that all cells of a notebook may take together.",
    ).tag(config=True)

    platform = Enum(
        sorted(JAX_PLATFORMS),
        default_value="cpu",
        help="Where JAX runs: cpu, gpu (or cuda), tpu. There is no silent fallback.",
    ).tag(config=True)

    def preprocess(
        self, nb: NotebookNode, resources: Resources, km: Any = None
    ) -> Step:
        """Execute `nb` in place; raise `PlatformError` where JAX lacks the platform."""
        if self.platform != "cpu":
            require_platform(JAX_PLATFORMS[self.platform])
        self._completed: set[int] = set()
        self._stopped = ""
        self._deadline = time.monotonic() + self.submission_timeout
        nb, resources = super().preprocess(nb, resources, km)
        for index, cell in enumerate(nb.cells):
            if is_test(cell):
                settle(cell, None if index in self._completed else self._stopped)
        return nb, resources

    def start_new_kernel(self, **kwargs: Any) -> None:
        # Float32 products at full precision: a test means the same on every platform.
        env = {
            **os.environ,
            "JAX_PLATFORMS": JAX_PLATFORMS[self.platform],
            "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        }
        super().start_new_kernel(env=env, **kwargs)

    def timeout_func(self, cell: NotebookNode) -> int:
        """Called by nbclient before each cell: its limit in seconds."""
        left = max(1, math.ceil(self._deadline - time.monotonic()))
        return min(self.timeout, left) if self.timeout else left

    def preprocess_cell(
        self, cell: NotebookNode, resources: Resources, index: int
    ) -> Step:
        if not self._stopped and time.monotonic() > self._deadline:
            self._stopped = SUBMISSION_TIMEOUT.format(seconds=self.submission_timeout)
        if self._stopped:
            return cell, resources
        try:
            step: Step = super().preprocess_cell(cell, resources, index)
            return step
        except DeadKernelError:
            self.stop(cell, "DeadKernelError", DEAD_KERNEL)
        except CellTimeoutError:
            self.stop(cell, "CellTimeoutError", UNINTERRUPTIBLE)
        return cell, resources

    def stop(self, cell: NotebookNode, ename: str, sentence: str) -> None:
        """End the run at `cell`, whose kernel is dead or will not listen."""
        add_error(cell, ename, sentence)
        self._stopped = AFTER_STOP.format(why=sentence)

    def on_cell_executed(self, **kwargs: Any) -> None:
        """Called by nbclient with the kernel's reply to a cell."""
        cell, reply = kwargs["cell"], kwargs["execute_reply"]["content"]
        if reply["status"] == "ok":
            self._completed.add(kwargs["cell_index"])
        elif reply["ename"] == "CellTimeoutError":
            # The kernel was interrupted: its KeyboardInterrupt is ours, not a clue.
            cell.outputs = [o for o in cell.outputs if o.output_type != "error"]
            add_error(cell, "CellTimeoutError", CELL_TIMEOUT)
        else:
            super().on_cell_executed(**kwargs)


class LimitOutput(stock.LimitOutput):
    """Cut long output: nbgrader counts lines, and one line can fill a disk."""

    max_characters = Integer(
        100_000,
        min=1,
        help="Characters of text that a cell may show; what is longer is cut.",
    ).tag(config=True)

    def preprocess_cell(
        self, cell: NotebookNode, resources: Resources, index: int
    ) -> Step:
        self._left = self.max_characters
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = self.cut(output.text)
            elif output.output_type == "error":
                output.evalue = self.cut(output.evalue)
                output.traceback = [self.cut(line) for line in output.traceback]
            else:
                self.cut_data(output.data)
        step: Step = super().preprocess_cell(cell, resources, index)
        return step

    def cut(self, text: str) -> str:
        """Return `text`, or its beginning with a note of what is missing."""
        kept, missing = text[: self._left], len(text) - self._left
        self._left -= len(kept)
        return kept + CUT.format(missing=missing) if missing > 0 else text

    def cut_data(self, data: dict[str, Any]) -> None:
        """Cut a value's plain text; drop its other formats (a plot) where too long."""
        for mime in sorted(data, key=lambda mime: mime != "text/plain"):
            if mime == "text/plain":
                data[mime] = self.cut(data[mime])
            elif len(str(data[mime])) > self._left:
                del data[mime]
                data.setdefault("text/plain", DROPPED.format(mime=mime))
            else:
                self._left -= len(str(data[mime]))


class SaveAutoGrades(stock.SaveAutoGrades):
    """Save the verdicts; a test cell that the author must mend waits for a human."""

    def _add_score(self, cell: NotebookNode, resources: Resources) -> None:
        super()._add_score(cell, resources)
        if any(o.get("ename") == TEST_CELL_ERROR for o in cell.get("outputs", [])):
            ids = resources["nbgrader"]
            grade = self.gradebook.find_grade(
                grade_id_of(cell), ids["notebook"], ids["assignment"], ids["student"]
            )
            grade.auto_score = None
            grade.needs_manual_grade = True
            self.gradebook.db.commit()
            warn(self.log, NEEDS_MANUAL, resources, grade_id=grade_id_of(cell))


def settle(cell: NotebookNode, unfinished: str | None) -> None:
    """Write a test cell's verdict into its outputs, as nbgrader reads them.

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
    for output in values:
        settle_value(cell, output)
    if has_error(cell):
        # nbgrader would take a score that stands before the error.
        for output in values:
            as_plain_output(output)


def settle_value(cell: NotebookNode, output: NotebookNode) -> None:
    """Turn a test cell's value into partial credit, a verdict, or plain output."""
    match = SCALAR.fullmatch(str(output.data.get("text/plain", "")).strip())
    value = match["value"] if match else "True"
    if value in ("True", "False"):
        as_plain_output(output)
        if value == "False":
            add_error(cell, "AssertionError", FALSE_VALUE)
        return
    points = float(cell.metadata.nbgrader.points)
    score = as_score(value)
    if math.isfinite(score) and 0 <= score <= points:
        output.data["text/plain"] = repr(score)
    else:
        add_error(cell, TEST_CELL_ERROR, BAD_CREDIT.format(value=value, points=points))


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


def has_error(cell: NotebookNode) -> bool:
    """Whether a cell shows an error."""
    return any(output.output_type == "error" for output in cell.outputs)


def add_error(cell: NotebookNode, ename: str, sentence: str) -> None:
    """Append an error output that reads as one sentence."""
    cell.setdefault("outputs", []).append(
        new_output("error", ename=ename, evalue=sentence, traceback=[sentence])
    )


@functools.cache
def require_platform(name: str) -> None:
    """Raise `PlatformError` unless JAX finds devices of this ``JAX_PLATFORMS`` name."""
    probe = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "JAX_PLATFORMS": name},
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        why = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PlatformError(NO_PLATFORM.format(name=name, why=why))


def is_test(cell: NotebookNode) -> bool:
    """Whether this is a code cell that earns its points by running."""
    return (
        cell.cell_type == "code"
        and utils.is_grade(cell)
        and not utils.is_solution(cell)
    )


def is_graded_or_locked(cell: NotebookNode) -> bool:
    """Whether nbgrader knows this cell by its grade_id."""
    return bool(
        utils.is_grade(cell) or utils.is_solution(cell) or utils.is_locked(cell)
    )


def grade_id_of(cell: NotebookNode) -> str | None:
    """Return the cell's grade_id, None where it has none."""
    grade_id: str | None = cell.metadata.get("nbgrader", {}).get("grade_id")
    return grade_id


def warn(
    log: logging.Logger, message: str, resources: Resources, *, grade_id: str | None
) -> None:
    """Log `message` with the place that it is about."""
    ids = resources["nbgrader"]
    path = f"submitted/{ids['student']}/{ids['assignment']}/{ids['notebook']}.ipynb"
    log.warning(message.format(path=path, grade_id=grade_id))


TEST_CELL_ERROR = "TestCellError"

DUPLICATE_GRADE_ID = (
    "{path}: a grade_id must be unique, but there is {ids}. Give each cell its own id "
    "(in JupyterLab: the Create Assignment panel), then run "
    "`nbgrader generate_assignment {assignment} --force` again."
)
DUPLICATE_CELL = (
    "{path}: cell {grade_id!r} was there more than once. The last one counts, the "
    "others run as plain code. Nothing to do."
)
CHANGED_CELL = (
    "{path}: locked cell {grade_id!r} was changed. Its own text is back. Nothing to do."
)
RESTORED_CELL = (
    "{path}: cell {grade_id!r} was missing. It is back for grading. Nothing to do."
)
MISSING_SOLUTION = (
    "{path}: the solution cell {grade_id!r} is missing. The tests find an answer only "
    "if another cell has it. Look at the autograded notebook."
)
NEEDS_MANUAL = (
    "{path}: the value of test cell {grade_id!r} is no score. It waits for manual "
    "grading; mend the test in source/, generate and autograde again with --force."
)
CELL_TIMEOUT = "Stopped: the cell took longer than it may. Is there an endless loop?"
UNINTERRUPTIBLE = "Stopped: the cell took too long and did not react to an interrupt."
DEAD_KERNEL = "The kernel died while this cell ran: a crash, or too much memory."
SUBMISSION_TIMEOUT = "The notebook used up its {seconds} s."
AFTER_STOP = "An earlier cell ended the run. {why}"
NOT_EXECUTED = "This test did not run to its end."
FALSE_VALUE = "The value of this test is False."
BAD_CREDIT = (
    "The value of this test, {value}, is no score between 0 and {points:g}. "
    "The fault is in the test, not in the answer: it needs manual grading."
)
CUT = "\n[... {missing} more characters were cut here]"
DROPPED = "[an output of type {mime} was too long and is left out]"
NO_PLATFORM = (
    "JAX finds no {name!r} device here: {why}. Nothing was graded. Install JAX for it "
    "(`pip install 'jax[cuda13]'` or `'jax[tpu]'`), or set "
    '`c.Execute.platform = "cpu"` in nbgrader_config.py.'
)
