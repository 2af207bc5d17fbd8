"""Plug into nbgrader's commands: `nbgrader_config.py` calls `plug_in` once.

nbgrader's settings reach the steps of a command, not the command itself. What is
replaced here is what no setting reaches, and no more than that: the `Autograde`
converter (behind `nbgrader autograde` and the formgrader's button) says what is wrong
with a submission in words that help, and Validate takes our `Execute`.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import IO, Any

import nbformat
import nbgrader.apps.api
import nbgrader.apps.autogradeapp
import nbgrader.converters
from nbconvert.exporters import NotebookExporter
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput
from nbgrader.validator import Validator
from sqlalchemy.exc import SAWarning

from jaxgrader.errors import SubmissionError
from jaxgrader.preprocessors import Execute


def plug_in() -> None:
    """Prepare this process, which runs nbgrader or a Jupyter server with it."""
    put_programs_on_path()
    nbgrader.apps.autogradeapp.Autograde = Autograde
    nbgrader.apps.api.Autograde = Autograde
    # The list of Validate's steps is no setting. traitlets looks for a default by this
    # name before it takes the declared one.
    Validator._preprocessors_default = lambda self: [
        CheckCellMetadata,
        ClearOutput,
        Execute,
    ]
    # SQLAlchemy 2.1 says this of each new submission; the rows are right.
    warnings.filterwarnings(
        "ignore", message="Object of type <Submitted", category=SAWarning
    )


def put_programs_on_path() -> None:
    """Let nbgrader find `alembic`, which it starts by its bare name.

    Without it the first command fails, in an environment that is not activated, and
    leaves a gradebook that has no version and cannot be upgraded.
    """
    programs = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if programs not in path:
        os.environ["PATH"] = os.pathsep.join([programs, *path])


class SubmissionReader(NotebookExporter):
    """Reads a notebook, or says why it cannot: `c.Autograde.exporter_class`."""

    def from_file(
        self, file_stream: IO[str], resources: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Return nbconvert's (text, resources).

        Raises `SubmissionError` for whatever is not a notebook: no JSON, no UTF-8, no
        cells. The file is not touched.
        """
        try:
            notebook = nbformat.read(file_stream, as_version=4)
            for cell in notebook.cells:
                _ = cell.cell_type, cell.metadata, cell.source + ""
        except Exception as error:
            ids = resources["nbgrader"]
            why = (str(error).splitlines() or [""])[0][:120]
            raise SubmissionError(
                NOT_A_NOTEBOOK.format(
                    path="{student}/{assignment}/{notebook}.ipynb".format(**ids),
                    why=f"{type(error).__name__}: {why}",
                    **ids,
                )
            ) from None
        exported: tuple[Any, Any] = super().from_notebook_node(  # type: ignore[no-untyped-call]
            notebook, resources=resources, **kwargs
        )
        return exported


class Autograde(nbgrader.converters.Autograde):
    """nbgrader's converter, with messages that say what to do next."""

    def init_notebooks(self) -> None:
        """Called first: list the submissions. Raises NbGraderException for none."""
        course = self.coursedir
        folders = self.submitted_folders(course.assignment_id, course.student_id)
        if not folders:
            message = self.no_submission()
            self.log.error(message)
            raise NbGraderException(message)
        for folder in folders:
            if not any(folder.glob("*.ipynb")):
                self.log.error(self.describe(folder, EMPTY_SUBMISSION))
        super().init_notebooks()

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        """Called per submission. Raises `SubmissionError` for a renamed notebook."""
        folder = Path(self._format_source(assignment_id, student_id))
        expected = self.expected_notebooks(assignment_id)
        found = {path.name for path in folder.glob("*.ipynb")}
        if expected and not expected & found:
            raise SubmissionError(self.describe(folder, RENAMED_NOTEBOOK))
        if expected - found:
            self.log.error(self.describe(folder, MISSING_NOTEBOOK))
        super().init_assignment(assignment_id, student_id)

    def submitted_folders(self, assignment: str, student: str) -> list[Path]:
        """Return the folders in submitted/ that match two patterns."""
        pattern = Path(self._format_source(assignment, student))
        return sorted(
            Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
        )

    def expected_notebooks(self, assignment: str) -> set[str]:
        """Return the file names of the assignment's source notebooks."""
        course = self.coursedir
        source = course.format_path(course.source_directory, ".", assignment)
        return {path.name for path in Path(source).glob("*.ipynb")}

    def no_submission(self) -> str:
        """Return the message for an assignment or a student that nobody knows."""
        assignment, student = self.coursedir.assignment_id, self.coursedir.student_id
        handed_in = self.submitted_folders(assignment, "*")
        if handed_in:
            names = ", ".join(folder.parent.name for folder in handed_in)
            return NO_SUCH_STUDENT.format(
                assignment=assignment, student=student, names=names
            )
        source = Path(self.coursedir.root, self.coursedir.source_directory)
        names = ", ".join(sorted(path.name for path in source.glob("*/")))
        message = NOT_COLLECTED
        if not self.expected_notebooks(assignment):
            message = NO_SUCH_ASSIGNMENT
        return message.format(assignment=assignment, names=names)

    def describe(self, folder: Path, message: str) -> str:
        """Fill a message about a submitted folder with its names."""
        expected = self.expected_notebooks(folder.name)
        found = {path.name for path in folder.glob("*.ipynb")}
        return message.format(
            folder=f"submitted/{folder.parent.name}/{folder.name}",
            missing=", ".join(sorted(expected - found)),
            unknown=", ".join(sorted(found - expected)),
            assignment=folder.name,
            student=folder.parent.name,
        )


NOT_A_NOTEBOOK = (
    "submitted/{path} cannot be read as a notebook ({why}). The file is left as it is. "
    "Ask the student to submit again, or replace it, then run "
    "`nbgrader autograde {assignment} --student={student}`."
)
EMPTY_SUBMISSION = (
    "{folder} is empty: {missing} is missing and nothing is graded. If the student has "
    "it, collect it again or put it there, then run "
    "`nbgrader autograde {assignment} --student={student}`."
)
MISSING_NOTEBOOK = (
    "{folder} lacks {missing}, which scores 0. If the student has it, put it there, "
    "then run `nbgrader autograde {assignment} --student={student} --force`."
)
RENAMED_NOTEBOOK = (
    "{folder} lacks {missing}, but has {unknown}, which is not part of the assignment; "
    "nothing is graded. If the student renamed it, copy it to the right name, then run "
    "`nbgrader autograde {assignment} --student={student}`."
)
NO_SUCH_STUDENT = (
    "submitted/ holds no {assignment!r} by student {student!r}. Check the name, or run "
    "`nbgrader collect {assignment}` first. Submissions are there from: {names}."
)
NOT_COLLECTED = (
    "submitted/ holds no submission of {assignment!r}. Run `nbgrader collect "
    "{assignment}` first, or copy them to submitted/<student>/{assignment}/."
)
NO_SUCH_ASSIGNMENT = (
    "There is no assignment {assignment!r}: neither source/ nor submitted/ has it. "
    "Check the name. The assignments of this course are: {names}."
)
