"""The steps of generate_assignment that `nbgrader_config.py` adds to nbgrader's own."""

import contextlib
import copy
from pathlib import Path
from typing import Any

import nbformat
import nbgrader.preprocessors as stock
from nbformat.notebooknode import NotebookNode
from nbgrader.api import Comment, Grade, MissingEntry, SubmittedNotebook

from jaxgrader.errors import CourseError, GraderError
from jaxgrader.grading.plan import plan_of
from jaxgrader.grading.runner import is_test
from jaxgrader.kernel import cache
from jaxgrader.kernel.sandbox import Sandbox
from jaxgrader.kernel.servers import shared_cache
from jaxgrader.preprocessors import (
    KERNEL,
    Execute,
    Resources,
    Step,
    grade_id_of,
    is_graded_or_locked,
)
from jaxgrader.verdicts import has_error


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


class WarmCache(stock.NbGraderPreprocessor):
    """Keep what JAX compiles while the instructor's solution runs.

    A step of generate_assignment, before the solution is cut out. The kernels of all
    submissions read it, so that nobody pays for the same program twice. The tests run
    in a checker meanwhile, and what that compiles is kept apart, for checkers alone: a
    compiled program has constants in it, and names, and those of hidden tests are
    nothing for students to read.
    """

    def preprocess(self, nb: NotebookNode, resources: Resources) -> Step:
        """Fill the compilation cache; without a sandbox, say so and go on."""
        try:
            self.run(nb, resources)
        except GraderError as error:
            self.log.warning(NOT_WARM.format(why=error))
        return nb, resources

    def warm(self, path: Path) -> int:
        """Run a source notebook, as `run` does, in its assignment's folder."""
        ids = {"assignment": path.parent.name, "notebook": path.stem}
        place = {"nbgrader": ids, "metadata": {"path": str(path.parent)}}
        return self.run(nbformat.read(path, as_version=4), place)

    def run(self, nb: NotebookNode, resources: Resources) -> int:
        """Run a copy of `nb`; return how many compiled programs were new.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
        """
        nb = copy.deepcopy(nb)
        shared = shared_cache(Sandbox(parent=self).platform)
        before = cache.compiled(shared)
        tests = cache.for_tests(shared, resources["nbgrader"]["assignment"])
        with cache.filling(shared) as new, cache.filling(tests):
            execute = Execute(parent=self, kernel_name=KERNEL)
            execute.config.SandboxProvisioner.fill = str(new)
            place = {"metadata": resources.get("metadata", {})}
            path = place["metadata"].get("path")
            nb, _ = execute.run(nb, place, plan_of(nb), Path(path) if path else None)
        for cell in filter(is_test, nb.cells):
            if has_error(cell):
                place = {**resources["nbgrader"], "grade_id": grade_id_of(cell)}
                self.log.warning(OWN_TEST_FAILS.format(**place))
        return cache.compiled(shared) - before


class SaveCells(stock.SaveCells):
    """Save the author's cells; cells may come and go after students have submitted.

    nbgrader refuses that. Here every submission in the gradebook gets a grade without
    a score for a new cell, which waits until it is graded again, and loses the grade
    of a cell that is gone. The grades of all other cells, manual ones too, stay.
    """

    def _create_notebook(self, nb: NotebookNode) -> None:
        """Called by nbgrader when it has found the cells of `nb`."""
        with contextlib.suppress(MissingEntry):
            notebook = self.gradebook.find_notebook(
                self.notebook_id, self.assignment_id
            )
            if notebook.submissions:
                self.follow(notebook)
        super()._create_notebook(nb)

    def follow(self, notebook: Any) -> None:
        """Make the gradebook's cells those of the source, and the submissions' too."""
        kinds = {
            "grade": (self.new_grade_cells, notebook.grade_cells, (Grade,)),
            "solution": (self.new_solution_cells, notebook.solution_cells, (Comment,)),
            "task": (self.new_task_cells, notebook.task_cells, (Grade, Comment)),
            "source": (self.new_source_cells, notebook.source_cells, ()),
        }
        place = self.notebook_id, self.assignment_id
        ids = {"notebook": self.notebook_id, "assignment": self.assignment_id}
        for kind, (new, old, rows) in kinds.items():
            known = {cell.name: cell for cell in old}
            for name in known.keys() - new.keys():
                self.log.warning(CELL_GONE.format(kind=kind, name=name, **ids))
                self.remove(known[name], rows)
            add = getattr(self.gradebook, f"add_{kind}_cell")
            for name in new.keys() - known.keys():
                cell = add(name, *place, **new[name])
                for submission in notebook.submissions:
                    self.add(cell, submission, rows)
        self.gradebook.db.commit()
        self.gradebook.db.expire_all()

    def remove(self, cell: Any, rows: tuple[Any, ...]) -> None:
        """Remove a cell with what the submissions have of it."""
        database = self.gradebook.db
        for table in rows:
            database.query(table).filter(table.cell_id == cell.id).delete()
        database.expire_all()
        database.delete(cell)

    def add(
        self, cell: Any, submission: SubmittedNotebook, rows: tuple[Any, ...]
    ) -> None:
        """Give a submission what it has of a new cell; a grade waits for a score."""
        for table in rows:
            self.gradebook.db.add(table(cell_id=cell.id, notebook_id=submission.id))


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
EMPTY_TEST = (
    "{path}: test cell {number} is empty, so nobody could earn its points. Write the "
    "test, or take its points away, then run "
    "`nbgrader generate_assignment {assignment} --force` again."
)
CELL_GONE = (
    "The {kind} cell {name!r} is no longer in source/{assignment}/{notebook}.ipynb. "
    "The scores and comments that submissions had for it leave the gradebook."
)
