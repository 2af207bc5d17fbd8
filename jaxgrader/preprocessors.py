"""The steps that `nbgrader_config.py` puts in the place of nbgrader's own."""

import copy
import logging
import math
import os
import time
from typing import Any

import nbgrader.preprocessors as stock
import zmq
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.corpus.words import generate_corpus_id
from nbformat.notebooknode import NotebookNode, from_dict
from nbgrader import utils
from nbgrader.api import Gradebook
from traitlets import Enum, Integer, List, default

from jaxgrader.errors import CourseError, GraderError
from jaxgrader.kernel import cache, devices
from jaxgrader.kernel.sandbox import Limits, Sandbox
from jaxgrader.kernel.servers import shared_cache
from jaxgrader.verdicts import add_error, add_note, has_error, limit_output, settle

Resources = dict[str, Any]
Step = tuple[NotebookNode, Resources]

#: The name of the kernelspec that `jaxgrader install` registers.
KERNEL = "jax-sandboxed"

#: The cell metadata that a submission may bring along. Tags may not: nbclient does not
#: run a cell tagged ``skip-execution``, for one. Nor may nbgrader's: see RestoreCells.
SUBMITTED_METADATA = {"deletable", "editable", "collapsed", "scrolled"}


class CheckSource(stock.NbGraderPreprocessor):
    """First step of generate_assignment: say what is wrong in the author's words."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Raise `CourseError` for a grade_id that stands twice, and for empty tests."""
        ids = resources["nbgrader"]
        path = f"source/{ids['assignment']}/{ids['notebook']}.ipynb"
        numbers: dict[str, list[int]] = {}
        for number, cell in enumerate(nb.cells, start=1):
            if is_graded_or_locked(cell):
                numbers.setdefault(cell.metadata.nbgrader.grade_id, []).append(number)
            if is_test(cell) and not cell.source.strip():
                raise CourseError(EMPTY_TEST.format(path=path, number=number, **ids))
        twice = [
            f"{name!r} in cells {', '.join(map(str, where))}"
            for name, where in numbers.items()
            if len(where) > 1
        ]
        if twice:
            raise CourseError(
                DUPLICATE_GRADE_ID.format(path=path, ids="; ".join(twice), **ids)
            )
        return nb, resources


class RestoreCells(stock.OverwriteCells):
    """Make the author's cells what they were.

    The gradebook has them from generate_assignment. Of a submitted cell with one of
    their grade_ids, only the text of an answer is the student's; the text of locked
    cells, type, points and all other nbgrader metadata come from the gradebook. Of
    several cells with one grade_id the last one counts, as in nbgrader: JupyterLab's
    copy and paste makes such pairs, and the last definition is the answer. A missing
    cell goes behind the one that precedes it in the source, or to the top.
    """

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        ids = resources["nbgrader"]
        with Gradebook(ids["db_url"]) as gradebook:
            source = gradebook.find_notebook(ids["notebook"], ids["assignment"])
            cells = {
                cell.name: self.as_cell(source, cell) for cell in source.source_cells
            }
        self.restore_present(nb, resources, cells)
        self.restore_missing(nb, resources, cells)
        return nb, resources

    def as_cell(self, source: Any, cell: Any) -> NotebookNode:
        """Return the notebook cell for a `SourceCell` of the notebook `source`."""
        tasks = {task.name: task.max_score for task in source.task_cells}
        points = {grade.name: grade.max_score for grade in source.grade_cells} | tasks
        restored: NotebookNode = from_dict(
            self.missing_cell_transform(
                cell,
                points.get(cell.name, 0),
                is_solution=cell.name in {c.name for c in source.solution_cells},
                is_task=cell.name in tasks,
            )
        )
        restored.source = cell.source
        if cell.name not in points:
            restored.metadata.nbgrader.grade = False
            del restored.metadata.nbgrader["points"]
        return restored

    def restore_present(
        self, nb: NotebookNode, resources: Resources, cells: dict[str, NotebookNode]
    ) -> None:
        """Restore the cells that are there; drop metadata that may not be."""
        seen: set[str] = set()
        for cell in reversed(nb.cells):
            grade_id = grade_id_of(cell)
            changed = is_changed(cell)
            for key in set(cell.metadata) - SUBMITTED_METADATA:
                del cell.metadata[key]
            if grade_id in seen:
                warn(self.log, DUPLICATE_CELL, resources, grade_id)
            elif grade_id in cells:
                seen.add(grade_id)
                original = cells[grade_id]
                cell.metadata["nbgrader"] = original.metadata.nbgrader
                self.update_cell_type(cell, original.cell_type)
                if original.metadata.nbgrader.locked:
                    cell.source = original.source
                    if changed:
                        warn(self.log, CHANGED_CELL, resources, grade_id)

    def restore_missing(
        self, nb: NotebookNode, resources: Resources, cells: dict[str, NotebookNode]
    ) -> None:
        """Insert what the source notebook has and `nb` has not, in place."""
        before: str | None = None
        for name, cell in cells.items():
            present = [grade_id_of(submitted) for submitted in nb.cells]
            nbgrader = cell.metadata.nbgrader
            if name not in present and nbgrader.solution and not nbgrader.grade:
                warn(self.log, MISSING_SOLUTION, resources, name)
                continue
            if name not in present:
                if nb.nbformat_minor >= 5:
                    cell.id = generate_corpus_id()
                where = present.index(before) + 1 if before in present else 0
                nb.cells.insert(where, cell)
                warn(self.log, RESTORED_CELL, resources, name)
            before = name


def is_changed(cell: NotebookNode) -> bool:
    """Whether a locked cell differs from what the student was given."""
    try:
        released = cell.metadata["nbgrader"]["checksum"]
        return bool(utils.is_locked(cell) and released != utils.compute_checksum(cell))
    except (AttributeError, KeyError, TypeError, ValueError):
        return True


class Execute(stock.Execute):
    """Run a notebook on a JAX kernel, and give each test cell its verdict.

    A cell's verdict is positive when the kernel replied "ok" to it and it shows no
    error. A kernel that dies, or does not stop when told to, ends the run: the cells
    that follow did not earn anything, and say why.
    """

    timeout = Integer(
        allow_none=True, help="Seconds that a cell may take; else c.Limits.cell."
    ).tag(config=True)

    # A kernel that was graded has nothing left to do, and no say in it.
    shutdown_kernel = Enum(
        ["graceful", "immediate"],
        default_value="immediate",
        help=stock.Execute.shutdown_kernel.help,
    ).tag(config=True)

    # nbclient's 4 s are too few for honest output on a busy machine.
    iopub_timeout = Integer(10, help=stock.Execute.iopub_timeout.help).tag(config=True)

    # ipykernel warns of its TCP ports at every start, in students' faces.
    extra_arguments = List(["--log-level=ERROR"]).tag(config=True)

    @default("timeout")
    def _default_timeout(self) -> int | None:
        return Limits(parent=self).cell

    def preprocess(
        self, nb: NotebookNode, resources: Resources, km: Any = None
    ) -> Step:
        """Execute `nb` in place.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
        """
        self.sandbox, self.limits = Sandbox(parent=self), Limits(parent=self)
        self._completed: set[int] = set()
        self._stopped = ""
        self._deadline = time.monotonic() + (self.limits.wall or math.inf)
        self._output: dict[tuple[int, str], int] = {}
        nb, resources = super().preprocess(nb, resources, km)
        resources[AUTHOR_FAULTS] = {
            grade_id_of(cell)
            for index, cell in enumerate(nb.cells)
            if is_test(cell)
            and settle(cell, None if index in self._completed else self._stopped)
        }
        self.mark_unconfined(nb)
        return nb, resources

    def mark_unconfined(self, nb: NotebookNode) -> None:
        """Where the whole sandbox was not asked for, say so in every result."""
        if self.kernel_name == KERNEL and self.sandbox.level != "strict":
            for cell in filter(is_test, nb.cells):
                add_note(cell, WEAKER.format(level=self.sandbox.level))

    def create_kernel_manager(self) -> Any:
        """Called by nbclient: make the manager, whose sockets take no flood."""
        # Grading never lets a kernel write to the course's folders.
        self.config.Sandbox.files = "copy"
        manager = super().create_kernel_manager()
        manager.context.setsockopt(zmq.MAXMSGSIZE, 8 * self.limits.output + (1 << 20))
        manager.context.setsockopt(zmq.RCVHWM, 100)
        return manager

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Called by nbclient with each message that belongs to a running cell."""
        kind, content = msg["msg_type"], msg["content"]
        if kind in ("stream", "error", "display_data", "execute_result"):
            room = self._output.get((cell_index, kind), self.limits.output)
            if room < 0:
                return None
            self._output[cell_index, kind] = limit_output(kind, content, room)
        output: NotebookNode | None = super().process_message(msg, cell, cell_index)
        return output

    def start_new_kernel(self, **kwargs: Any) -> None:
        # A stock kernel, as Validate uses it, gets the platform's variables, too.
        platform = self.sandbox.platform
        device = (*devices.Inventory.of(platform).devices, None)[0]
        fraction = self.sandbox.memory_fraction
        variables = devices.environment(platform, device, fraction)
        super().start_new_kernel(env={**os.environ, **variables}, **kwargs)

    def timeout_func(self, cell: NotebookNode) -> int | None:
        """Called by nbclient before each cell: its limit in seconds, None for none."""
        left = max(1.0, self._deadline - time.monotonic())
        seconds = min(self.timeout or math.inf, left)
        return None if seconds == math.inf else math.ceil(seconds)

    def preprocess_cell(
        self, cell: NotebookNode, resources: Resources, index: int
    ) -> Step:
        if not self._stopped and time.monotonic() > self._deadline:
            self._stopped = SUBMISSION_TIMEOUT.format(seconds=self.limits.wall)
        if self._stopped:
            return cell, resources
        try:
            step: Step = super().preprocess_cell(cell, resources, index)
            return step
        except DeadKernelError:
            ended = getattr(self.km.provisioner, "sentence", "")
            self.stop(cell, "DeadKernelError", ended or DEAD_KERNEL)
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


class WarmCache(stock.NbGraderPreprocessor):
    """Keep what JAX compiles while the instructor's solution runs.

    A step of generate_assignment, before the solution is cut out. The kernels of all
    submissions read it, so that nobody pays for the same program twice.
    """

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Fill the compilation cache; without a sandbox, say so and go on."""
        try:
            self.run(nb, resources)
        except GraderError as error:
            self.log.warning(NOT_WARM.format(why=error))
        return nb, resources

    def run(self, nb: NotebookNode, resources: Resources) -> int:
        """Run a copy of `nb`; return how many compiled programs were new.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
        """
        nb = copy.deepcopy(nb)
        shared = shared_cache(Sandbox(parent=self).platform)
        before = len(os.listdir(shared))
        with cache.filling(shared) as new:
            execute = Execute(parent=self, kernel_name=KERNEL)
            execute.config.SandboxProvisioner.fill = str(new)
            execute.preprocess(nb, {"metadata": resources.get("metadata", {})})
        for cell in filter(is_test, nb.cells):
            if has_error(cell):
                place = {**resources["nbgrader"], "grade_id": grade_id_of(cell)}
                self.log.warning(OWN_TEST_FAILS.format(**place))
        return len(os.listdir(shared)) - before


class SaveAutoGrades(stock.SaveAutoGrades):
    """Save the verdicts; a test cell that the author must mend waits for a human."""

    def _add_score(self, cell: NotebookNode, resources: Resources) -> None:
        super()._add_score(cell, resources)
        if grade_id_of(cell) in resources.get(AUTHOR_FAULTS, ()):
            ids = resources["nbgrader"]
            grade = self.gradebook.find_grade(
                grade_id_of(cell), ids["notebook"], ids["assignment"], ids["student"]
            )
            grade.auto_score = None
            grade.needs_manual_grade = True
            self.gradebook.db.commit()
            warn(self.log, NEEDS_MANUAL, resources, grade_id_of(cell))


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
    """Return the cell's grade_id, None where it has none that could be one."""
    metadata = cell.metadata.get("nbgrader")
    grade_id = metadata.get("grade_id") if isinstance(metadata, dict) else None
    return grade_id if isinstance(grade_id, str) else None


def warn(
    log: logging.Logger, message: str, resources: Resources, grade_id: str | None
) -> None:
    """Log `message` with the place that it is about."""
    ids = resources["nbgrader"]
    path = f"submitted/{ids['student']}/{ids['assignment']}/{ids['notebook']}.ipynb"
    log.warning(message.format(path=path, grade_id=grade_id))


#: Key of the resources: grade_ids whose test gave a number that is no score.
AUTHOR_FAULTS = "jaxgrader_author_faults"

NOT_WARM = "The compilation cache was not filled, so grading will be slower: {why}"
OWN_TEST_FAILS = (
    "source/{assignment}/{notebook}.ipynb: its own solution fails the test "
    "{grade_id!r}. Mend one of them, then generate the assignment again."
)
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
EMPTY_TEST = (
    "{path}: test cell {number} is empty, so nobody could earn its points. Write the "
    "test, or take its points away, then run "
    "`nbgrader generate_assignment {assignment} --force` again."
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
UNINTERRUPTIBLE = (
    "Stopped: the cell took too long, and did not come to rest when interrupted."
)
DEAD_KERNEL = "The kernel died while this cell ran: a crash, or too much memory."
SUBMISSION_TIMEOUT = "The notebook used up its {seconds:g} s."
WEAKER = "[This ran with sandbox level {level!r}, not 'strict'.]"
AFTER_STOP = "An earlier cell ended the run. {why}"
