"""The steps that `nbgrader_config.py` puts in the place of nbgrader's own."""

import asyncio
import copy
import functools
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import nbformat
import nbgrader.preprocessors as stock
from jupyter_core.utils import run_sync
from nbformat.corpus.words import generate_corpus_id
from nbformat.notebooknode import NotebookNode, from_dict
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from traitlets import Integer, Unicode, default

from jaxgrader.errors import CourseError
from jaxgrader.grading.plan import Plan, plan_of
from jaxgrader.grading.runner import Grader, NotebookJob, is_test
from jaxgrader.kernel import devices
from jaxgrader.kernel.sandbox import Limits, Sandbox
from jaxgrader.results import TestResult
from jaxgrader.verdicts import add_note

T = TypeVar("T")
Resources = dict[str, Any]
Step = tuple[NotebookNode, Resources]

#: The name of the kernelspec that `jaxgrader install` registers.
KERNEL = "jax-sandboxed"

#: The cell metadata that a submission may bring along. Tags may not: nbclient does not
#: run a cell tagged ``skip-execution``, for one. Nor may nbgrader's: see RestoreCells.
SUBMITTED_METADATA = {"deletable", "editable", "collapsed", "scrolled"}


class RestoreCells(stock.OverwriteCells):
    """Make the author's cells what they were.

    The gradebook has them from generate_assignment, and the kernelspec. Of a submitted
    cell with one of their grade_ids, only the text of an answer is the student's; the
    text of locked cells, type, points and all other nbgrader metadata come from the
    gradebook. Of several cells with one grade_id the last one counts, as in nbgrader:
    JupyterLab's copy and paste makes such pairs, and the last definition is the answer.
    They stand in the order of the source; a missing one goes behind the one that
    precedes it there, or to the top.
    """

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        ids = resources["nbgrader"]
        original = resources.get(ORIGINAL) or self.find_original(ids)
        if original["kernelspec"]:
            nb.metadata["kernelspec"] = original["kernelspec"]
        cells = {name: from_dict(cell) for name, cell in original["cells"].items()}
        repair_cell_ids(nb)
        self.restore_present(nb, resources, cells)
        self.restore_order(nb, resources, cells)
        self.restore_missing(nb, resources, cells)
        return nb, resources

    def find_original(self, ids: dict[str, str]) -> dict[str, Any]:
        """Look the author's notebook up in the gradebook."""
        with Gradebook(ids["db_url"]) as gradebook:
            notebook = gradebook.find_notebook(ids["notebook"], ids["assignment"])
            return self.original(notebook, self.order(ids))

    def order(self, ids: dict[str, str]) -> list[str | None]:
        """Return the grade_ids of the source notebook; no database keeps an order."""
        course = CourseDirectory(parent=self)
        folder = course.format_path(course.source_directory, ".", ids["assignment"])
        path = Path(folder, f"{ids['notebook']}.ipynb")
        try:
            stamp = path.stat()
            return read_order(path, (stamp.st_mtime_ns, stamp.st_size))
        except (OSError, ValueError):
            return []

    def original(self, notebook: Any, order: list[str | None]) -> dict[str, Any]:
        """Return a gradebook's `Notebook` as plain values, which can travel."""
        cells = {
            cell.name: self.as_cell(notebook, cell) for cell in notebook.source_cells
        }
        known = [name for name in order if name in cells]
        return {
            "kernelspec": json.loads(notebook.kernelspec or "{}"),
            "cells": {name: cells[name] for name in dict.fromkeys([*known, *cells])},
        }

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

    def restore_order(
        self, nb: NotebookNode, resources: Resources, cells: dict[str, NotebookNode]
    ) -> None:
        """Put the author's cells into the order of the source, in the places they have.

        A test that was moved up in front of the answer would not find it.
        """
        order = {name: number for number, name in enumerate(cells)}
        places = [i for i, cell in enumerate(nb.cells) if "nbgrader" in cell.metadata]
        theirs = [nb.cells[place] for place in places]
        sorted_ = sorted(
            theirs, key=lambda cell: order[cell.metadata.nbgrader.grade_id]
        )
        if sorted_ != theirs:
            warn(self.log, MOVED_CELLS, resources, None)
        for place, cell in zip(places, sorted_, strict=True):
            nb.cells[place] = cell

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


@functools.lru_cache(maxsize=64)
def read_order(path: Path, stamp: tuple[int, int]) -> list[str | None]:
    """Return the grade_ids of a notebook in their order."""
    return [grade_id_of(cell) for cell in nbformat.read(path, as_version=4).cells]


def repair_cell_ids(nb: NotebookNode) -> None:
    """Give cells whose id is none a new one: nbformat refuses them at the next step."""
    for cell in nb.cells:
        if "id" in cell and not (
            isinstance(cell.id, str) and re.fullmatch("[a-zA-Z0-9-_]{1,64}", cell.id)
        ):
            cell.id = generate_corpus_id()


def is_changed(cell: NotebookNode) -> bool:
    """Whether a locked cell differs from what the student was given."""
    try:
        released = cell.metadata["nbgrader"]["checksum"]
        return bool(utils.is_locked(cell) and released != utils.compute_checksum(cell))
    except (AttributeError, KeyError, TypeError, ValueError):
        return True


class Execute(stock.NbGraderPreprocessor):
    """Run a notebook on one JAX kernel, its tests included: what Validate does."""

    kernel_name = Unicode(
        help="The kernelspec to run notebooks on; empty for the notebook's own."
    ).tag(config=True)

    timeout = Integer(
        allow_none=True, help="Seconds that a cell may take; else c.Limits.cell."
    ).tag(config=True)

    @default("timeout")
    def _default_timeout(self) -> int | None:
        return Limits(parent=self).cell

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Execute `nb`.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
        """
        return self.run(nb, resources)

    def run(
        self,
        nb: NotebookNode,
        resources: Resources,
        plan: Plan | None = None,
        source: Path | None = None,
    ) -> Step:
        """Run all cells; leave the verdicts in `resources`."""
        sandbox, limits = Sandbox(parent=self), Limits(parent=self)
        files = resources.get("metadata", {}).get("path")
        job = NotebookJob(
            notebook=nb,
            plan=plan,
            files=Path(files) if files else None,
            source=source,
            cell=self.timeout,
            wall=limits.wall,
            output=limits.output,
            env=environment(sandbox),
        )
        done, results = self.grade(job)
        resources[RESULTS] = {result.grade_id: result for result in results}
        if self.kernel_name == KERNEL and sandbox.level != "strict":
            for cell in filter(is_test, done.cells):
                add_note(cell, WEAKER.format(level=sandbox.level))
        return done, resources

    def grade(self, job: NotebookJob) -> tuple[NotebookNode, tuple[TestResult, ...]]:
        return run(self.grade_alone, job)

    async def grade_alone(self, job: NotebookJob) -> "Graded":
        """Grade one notebook in a slot that ends with it."""
        grader = self.grader(job.notebook)
        try:
            return await grader.grade(job)
        finally:
            await grader.close()

    def grader(self, nb: NotebookNode) -> Grader:
        """Return a new grading slot, for the kernel that a notebook runs on."""
        config = copy.deepcopy(self.config)
        # Grading never lets a kernel write to the course's folders.
        config.Sandbox.files = "copy"
        # The grader stops a cell that takes too long, and knows whose time it is.
        config.Limits.cell = None
        spec = nb.metadata.get("kernelspec", {}).get("name", "")
        return Grader(self.kernel_name or spec, config)


class Grade(Execute):
    """Run a submission: its cells in its kernel, the tests in the checker."""

    #: One slot for all submissions of a command, so that its checker stays warm, and
    #: the settings that it was made with.
    slot: ClassVar[tuple[str, Grader] | None] = None

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Grade `nb`.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
            SubmissionError: if the submission's files do not fit into a kernel.
            CourseError: if source/ has not what the checker needs.
        """
        ids = resources["nbgrader"]
        course = CourseDirectory(parent=self)
        source = Path(
            course.format_path(course.source_directory, ".", ids["assignment"])
        )
        plan = read_plan(source / f"{ids['notebook']}.ipynb", ids["assignment"])
        nb, resources = self.run(nb, resources, plan, source)
        results = resources[RESULTS]
        for cell in filter(is_test, nb.cells):
            if not results[grade_id_of(cell)].protected:
                add_note(cell, UNPROTECTED)
        return nb, resources

    def grade(self, job: NotebookJob) -> tuple[NotebookNode, tuple[TestResult, ...]]:
        return run(self.grader(job.notebook).grade, job)

    def grader(self, nb: NotebookNode) -> Grader:
        """Return the slot that all submissions share."""
        new = super().grader(nb)
        # The folder holds the restored notebook: the hidden tests.
        new.config.SandboxProvisioner.leave_out = ["*.ipynb"]
        settings = repr((new.kernel_name, new.config))
        if Grade.slot is None or Grade.slot[0] != settings:
            end_slot()
            Grade.slot = settings, new
        return Grade.slot[1]


#: Each thread's event loop.
_own = threading.local()


def run(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run a coroutine function to its end, each time in this thread's same event loop.

    `run_sync` keeps its loop in the context, and Dask calls each job in another one: a
    checker, which belongs to a loop, would serve one submission and end.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if getattr(_own, "loop", None) is None:
            _own.loop = asyncio.new_event_loop()
        loop: asyncio.AbstractEventLoop = _own.loop
        return loop.run_until_complete(work(*args))
    return run_sync(work)(*args)


def end_slot() -> None:
    """End the checker that `Grade` keeps for the next submission."""
    slot, Grade.slot = Grade.slot, None
    if slot is not None:
        run(slot[1].close)


def environment(sandbox: Sandbox) -> dict[str, str]:
    """Return what a stock kernel, as Validate uses it, gets of the platform's."""
    device = (*devices.Inventory.of(sandbox.platform).devices, None)[0]
    fraction = sandbox.memory_fraction
    return {**os.environ, **devices.environment(sandbox.platform, device, fraction)}


def read_plan(path: Path, assignment: str) -> Plan:
    """Return how the tests of a source notebook are run.

    Raises:
        CourseError: if there is no such notebook, or if its cells are not Python.
    """
    try:
        stamp = path.stat()
        return _read_plan(path, (stamp.st_mtime_ns, stamp.st_size))
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        message = NO_SOURCE.format(path=path, why=why, assignment=assignment)
        raise CourseError(message) from None


@functools.lru_cache(maxsize=64)
def _read_plan(path: Path, stamp: tuple[int, int]) -> Plan:
    return plan_of(nbformat.read(path, as_version=4))


class SaveAutoGrades(stock.SaveAutoGrades):
    """Save the verdicts; a test cell without one waits for a human, without a score."""

    def _add_score(self, cell: NotebookNode, resources: Resources) -> None:
        super()._add_score(cell, resources)
        if not is_test(cell):
            return
        ids, name = resources["nbgrader"], grade_id_of(cell)
        result = resources.get(RESULTS, {}).get(name)
        grade = self.gradebook.find_grade(
            name, ids["notebook"], ids["assignment"], ids["student"]
        )
        grade.auto_score = result.score if result else None
        if grade.auto_score is None:
            grade.needs_manual_grade = True
            why = result.sentence if result else NO_VERDICT
            warn(self.log, NEEDS_MANUAL, resources, name, why)
        self.gradebook.db.commit()


def score_of(cell: NotebookNode, results: dict[str, TestResult]) -> float | None:
    """Return the auto score of a graded cell, None where a human must look."""
    if is_test(cell):
        result = results.get(grade_id_of(cell) or "")
        return result.score if result else None
    score: float | None = utils.determine_grade(cell)[0]
    return score


def comment_of(cell: NotebookNode) -> str | None:
    """Return nbgrader's own comment on the answer in a cell."""
    unchanged = cell.metadata.nbgrader.get("checksum") == utils.compute_checksum(cell)
    return "No response." if unchanged and not utils.is_task(cell) else None


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
    log: logging.Logger,
    message: str,
    resources: Resources,
    grade_id: str | None,
    why: str = "",
) -> None:
    """Log `message` with the place that it is about."""
    ids = resources["nbgrader"]
    path = f"submitted/{ids['student']}/{ids['assignment']}/{ids['notebook']}.ipynb"
    log.warning(message.format(path=path, grade_id=grade_id, why=why))


#: Key of the resources: what the author's notebook is, where there is no gradebook to
#: look it up in: its kernelspec, and its cells by grade_id, in order.
ORIGINAL = "jaxgrader_original"
#: Key of the resources: grade_id -> `TestResult`. A student's code cannot write there.
RESULTS = "jaxgrader_results"
Graded = tuple[NotebookNode, tuple[TestResult, ...]]

DUPLICATE_CELL = (
    "{path}: cell {grade_id!r} was there more than once. The last one counts, the "
    "others run as plain code. Nothing to do."
)
MOVED_CELLS = "{path}: the author's cells were moved. They are back. Nothing to do."
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
    "{path}: test cell {grade_id!r} has no score and waits for manual grading. "
    "{why} If the test is wrong, mend it in source/, generate and autograde again with "
    "--force."
)
NO_VERDICT = "It has no verdict."
UNPROTECTED = "[This test ran in the student's own kernel: its points are unprotected.]"
WEAKER = "[This ran with sandbox level {level!r}, not 'strict'.]"
NO_SOURCE = (
    "{path} cannot be read ({why}). The checker learns from it which names are the "
    "student's. Put it there, then run `nbgrader autograde {assignment}` again."
)
