"""Scratch courses, and nbgrader run in them by real processes."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from demo.commands import Finished, command, run

CLONE = Path(__file__).parent.parent

#: A bare environment: no activated .venv, nobody's Jupyter settings, fork servers and
#: a compilation cache of the tests' own, which end with them.
_ours = tempfile.TemporaryDirectory(prefix="jg-")
BARE = {
    "JAXGRADER_RUNTIME_DIR": _ours.name,
    "JAXGRADER_CACHE_DIR": f"{_ours.name}/cache",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    **{name: os.environ[name] for name in ("TMPDIR",) if name in os.environ},
}


class Course:
    """A course directory in a scratch folder, with this course's nbgrader_config.py."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLONE / "nbgrader_config.py", root)

    def nbgrader(
        self, *lines: str, env: dict[str, str] | None = None
    ) -> list[Finished]:
        """Run nbgrader command lines here, in one process."""
        commands = [command(line, self.root, self.root) for line in lines]
        return run(commands, env={**BARE, **(env or {})})

    def write_source(self, assignment: str, notebook: str, nb: NotebookNode) -> None:
        """Write a source notebook."""
        path = self.root / "source" / assignment / f"{notebook}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, path)

    def hand_out(self, assignment: str, student: str) -> Path:
        """Give the release to a student as their submission; return its folder."""
        folder = self.root / "submitted" / student / assignment
        shutil.copytree(self.root / "release" / assignment, folder)
        return folder

    def query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the gradebook."""
        database = sqlite3.connect(self.root / "gradebook.db")
        try:
            return database.execute(sql, values).fetchall()
        finally:
            database.close()

    def grades(self, student: str, assignment: str) -> dict[str, tuple[object, ...]]:
        """Return grade_id -> (auto_score, needs_manual_grade) of one submission."""
        rows = self.query(GRADES, student, assignment)
        return {str(name): tuple(rest) for name, *rest in rows}

    def scores(self, student: str, assignment: str) -> dict[str, object]:
        """Return grade_id -> auto_score of one submission."""
        return {name: row[0] for name, row in self.grades(student, assignment).items()}


GRADES = """
    SELECT base_cell.name, grade.auto_score, grade.needs_manual_grade
    FROM grade
    JOIN base_cell ON base_cell.id = grade.cell_id
    JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
    JOIN submitted_assignment
      ON submitted_assignment.id = submitted_notebook.assignment_id
    JOIN assignment ON assignment.id = submitted_assignment.assignment_id
    WHERE submitted_assignment.student_id = ? AND assignment.name = ?
"""


def nbgrader_cell(
    kind: str, grade_id: str, source: str, points: float | None = None
) -> NotebookNode:
    """Return a code cell of an nbgrader kind: "locked", "solution" or "test"."""
    metadata = {
        "grade": kind == "test",
        "grade_id": grade_id,
        "locked": kind != "solution",
        "schema_version": 3,
        "solution": kind == "solution",
        "task": False,
    }
    if points is not None:
        metadata["points"] = points
    cell: NotebookNode = new_code_cell(
        source, id=grade_id, metadata={"nbgrader": metadata}
    )
    return cell


def notebook_of(*cells: NotebookNode) -> NotebookNode:
    """Return a notebook for the python3 kernel."""
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb: NotebookNode = new_notebook(cells=list(cells), metadata={"kernelspec": spec})
    return nb


#: An assignment without JAX: what nbgrader does with it takes a second, not six.
DOUBLE = notebook_of(
    nbgrader_cell("locked", "imports", "import math"),
    nbgrader_cell(
        "solution",
        "double",
        "def double(x):\n"
        "    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION",
    ),
    nbgrader_cell("test", "test_visible", "assert double(2) == 4, 'double(2) is 4'", 2),
    nbgrader_cell(
        "test",
        "test_hidden",
        "# Other numbers.\n### BEGIN HIDDEN TESTS\n"
        "assert double(math.pi) == 2 * math.pi\n### END HIDDEN TESTS",
        3,
    ),
)


@pytest.fixture(scope="module")
def new_course(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Course]:
    """Return a maker of scratch courses."""

    def make() -> Course:
        return Course(tmp_path_factory.mktemp("course"))

    return make
