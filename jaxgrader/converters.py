"""Plug into nbgrader's commands: `nbgrader_config.py` calls `plug_in` once.

nbgrader's settings reach the steps of a command, not the command itself. What is
replaced here is what no setting reaches, and no more than that: the `Autograde`
converter (behind `nbgrader autograde` and the formgrader's button) says what is wrong
with a submission in words that help, and Validate takes our `Execute` and `SayWhy`.
"""

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbgrader.api
import nbgrader.apps.api
import nbgrader.apps.autogradeapp
import nbgrader.apps.generatefeedbackapp
import nbgrader.converters
from nbconvert.exporters import Exporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput
from nbgrader.validator import Validator
from sqlalchemy.exc import SAWarning

from jaxgrader.errors import GraderError, SubmissionError
from jaxgrader.lock import Lock
from jaxgrader.pages import SafeHTML
from jaxgrader.preprocessors import Execute, end_slot
from jaxgrader.store import forget
from jaxgrader.submissions import check_submission
from jaxgrader.validation import SayWhy


def plug_in() -> None:
    """Prepare this process, which runs nbgrader or a Jupyter server with it."""
    put_programs_on_path()
    nbgrader.apps.autogradeapp.Autograde = Autograde
    nbgrader.apps.api.Autograde = Autograde
    nbgrader.apps.generatefeedbackapp.GenerateFeedback = GenerateFeedback
    nbgrader.apps.api.GenerateFeedback = GenerateFeedback
    make_formgrader_safe()
    # The list of Validate's steps is no setting. traitlets looks for a default by this
    # name before it takes the declared one.
    Validator._preprocessors_default = lambda self: [
        CheckCellMetadata,
        ClearOutput,
        Execute,
        SayWhy,
    ]
    # SQLAlchemy 2.1 says this of each new submission; the rows are right.
    warnings.filterwarnings(
        "ignore", message="Object of type <Submitted", category=SAWarning
    )


@contextlib.contextmanager
def kept_engines() -> Iterator[None]:
    """Let nbgrader open its gradebook with the engine that it had before.

    It opens it nine times for each submission, and each new engine compiles the same
    queries anew. Closing the gradebook still closes its connections.
    """
    make = nbgrader.api.create_engine
    nbgrader.api.create_engine = functools.cache(make)
    try:
        yield
    finally:
        nbgrader.api.create_engine = make


def put_programs_on_path() -> None:
    """Let nbgrader find `alembic`, which it starts by its bare name.

    Without it the first command fails, in an environment that is not activated, and
    leaves a gradebook that has no version and cannot be upgraded.
    """
    programs = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if programs not in path:
        os.environ["PATH"] = os.pathsep.join([programs, *path])


def make_formgrader_safe() -> None:
    """Let the formgrader show submissions, where this process is its server.

    It makes its exporter once, when the server starts, and takes no class from a
    setting; and it serves a submission's files as the server's own pages.
    """
    handlers: Any = sys.modules.get("nbgrader.server_extensions.formgrader.handlers")
    if handlers is not None:
        handlers.SubmissionHandler.exporter = property(exporter_of)
        handlers.SubmissionFilesHandler.set_extra_headers = jail_file


def exporter_of(handler: Any) -> SafeHTML:
    """Called by the formgrader: what turns a submission into a page."""
    settings = handler.settings
    if not isinstance(settings["nbgrader_exporter"], SafeHTML):
        config = settings["nbgrader_exporter"].config
        settings["nbgrader_exporter"] = SafeHTML(config=config)  # type: ignore[no-untyped-call]
    exporter: SafeHTML = settings["nbgrader_exporter"]
    return exporter


def jail_file(handler: Any, path: str) -> None:
    """Called by the formgrader for a file of a submission: no script in it runs."""
    handler.set_header("Content-Security-Policy", "sandbox; frame-ancestors 'self'")
    handler.set_header("X-Content-Type-Options", "nosniff")


class Autograde(nbgrader.converters.Autograde):
    """nbgrader's converter: fails closed, and says what to do next."""

    def start(self) -> None:
        """Grade, unless somebody else does. Raises NbGraderException."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(Lock.of(self.coursedir))
            except GraderError as error:
                self.refuse(str(error))
            held.enter_context(kept_engines())
            super().start()

    def init_notebooks(self) -> None:
        """Called first: list the submissions. Raises NbGraderException for none."""
        self._not_graded: list[str] = []
        self.require_our_steps()
        course = self.coursedir
        folders = self.submitted_folders(course.assignment_id, course.student_id)
        if not folders:
            self.refuse(self.no_submission(course.assignment_id))
        for folder in folders:
            if folder.is_dir() and not any(folder.glob("*.ipynb")):
                self.log.error(self.describe(folder, EMPTY_SUBMISSION))
        super().init_notebooks()

    def require_our_steps(self) -> None:
        """Refuse to grade when nbgrader_config.py did not load to its end.

        traitlets logs an error in a configuration file, drops the whole file, and goes
        on; nbgrader would then grade with its own steps, into its own places.
        """
        needed = {f"{STEPS}.Grade", f"{STEPS}.SaveAutoGrades"}
        if not needed <= names_of(self.autograde_preprocessors):
            self.refuse(NO_CONFIGURATION)

    def refuse(self, message: str) -> None:
        """End the command with a message that nbgrader's callers know to show."""
        self.log.error(message)
        raise NbGraderException(message)

    def convert_notebooks(self) -> None:
        """Called second: grade them all. Raises NbGraderException if any was not."""
        try:
            super().convert_notebooks()
        finally:
            end_slot()
        if self._not_graded:
            self.refuse(NOT_GRADED.format(folders=", ".join(self._not_graded)))

    def init_destination(self, assignment_id: str, student_id: str) -> bool:
        """Called per submission: whether to grade it. False if it cannot be read.

        nbgrader removes an earlier result here; that must not happen for a submission
        that cannot replace it.
        """
        folder = Path(self._format_source(assignment_id, student_id))
        expected = self.expected_notebooks(assignment_id)
        found = {path.name for path in folder.glob("*.ipynb")}
        try:
            if expected and not expected & found:
                raise SubmissionError(self.describe(folder, RENAMED_NOTEBOOK))
            check_submission(folder)
        except SubmissionError as error:
            self.log.error(self.describe(folder, NOT_READABLE, why=str(error)))
            self._not_graded.append(self.describe(folder, "{folder}"))
            self.flag_scores(folder, {Path(name).stem for name in expected})
            return False
        if expected - found:
            self.log.error(self.describe(folder, MISSING_NOTEBOOK))
        return bool(super().init_destination(assignment_id, student_id))

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """Called per notebook. Whatever happens in it, no older score outlives it."""
        folder = Path(notebook_filename).parent
        self.flag_scores(folder, {Path(notebook_filename).stem}, withdraw=True)
        super().convert_single_notebook(notebook_filename)

    def flag_scores(
        self, folder: Path, notebooks: set[str], *, withdraw: bool = False
    ) -> None:
        """Let an earlier result's scores wait for a human, until there are new ones.

        `withdraw` them where the result that they belong to is about to go.
        """
        course = self.coursedir
        opened = Gradebook(course.db_url, course.course_id)
        with opened as gradebook, contextlib.suppress(MissingEntry):
            earlier = gradebook.find_submission(folder.name, folder.parent.name)
            for notebook in earlier.notebooks:
                for grade in notebook.grades if notebook.name in notebooks else ():
                    grade.needs_manual_grade = True
                    if withdraw:
                        grade.auto_score = None
            gradebook.db.commit()
            if withdraw:  # the batch's record is about to be wrong
                forget(gradebook.engine, folder.name, folder.parent.name)

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

    def no_submission(self, assignment: str) -> str:
        """Return the message for an assignment or a student that nobody knows."""
        student = self.coursedir.student_id
        handed_in = self.submitted_folders(assignment, "*")
        if handed_in:
            names = ", ".join(folder.parent.name for folder in handed_in)
            return NO_SUCH_STUDENT.format(
                assignment=assignment, student=student, names=names
            )
        source = Path(self.coursedir.root, self.coursedir.source_directory)
        names = ", ".join(sorted(path.name for path in source.glob("*/"))) or "none"
        message = NOT_COLLECTED
        if not self.expected_notebooks(assignment):
            message = NO_SUCH_ASSIGNMENT
        return message.format(assignment=assignment, names=names)

    def describe(self, folder: Path, message: str, why: str = "") -> str:
        """Fill a message about a submitted folder with its names."""
        expected = self.expected_notebooks(folder.name)
        found = {path.name for path in folder.glob("*.ipynb")}
        earlier = Path(self._format_dest(folder.name, folder.parent.name)).exists()
        return message.format(
            why=why,
            earlier=EARLIER if earlier else "",
            folder=f"submitted/{folder.parent.name}/{folder.name}",
            missing=", ".join(sorted(expected - found)),
            unknown=", ".join(sorted(found - expected)),
            assignment=folder.name,
            student=folder.parent.name,
        )


class GenerateFeedback(nbgrader.converters.GenerateFeedback):
    """nbgrader's converter: refuses to show hidden tests, makes safe pages."""

    def _exporter_class_default(self) -> type[Exporter]:
        # It draws. What every nbgrader command and every worker imports does not.
        from jaxgrader.feedback_page import FeedbackHTML

        return FeedbackHTML

    def init_notebooks(self) -> None:
        """Called first: list the results. Raises NbGraderException for none."""
        if HIDE not in names_of(self.preprocessors):
            self.log.error(NO_FEEDBACK)
            raise NbGraderException(NO_FEEDBACK)
        super().init_notebooks()

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        """Called per submission: copy its files, but no page of the student's.

        release_feedback takes every page in the folder for one of ours.
        """
        course = self.coursedir
        ignored, course.ignore = course.ignore, [*course.ignore, "*.html"]
        try:
            super().init_assignment(assignment_id, student_id)
        finally:
            course.ignore = ignored


def names_of(steps: list[Any]) -> set[str]:
    """Return the full names of a converter's steps."""
    return {
        step if isinstance(step, str) else f"{step.__module__}.{step.__name__}"
        for step in steps
    }


STEPS = "jaxgrader.preprocessors"
HIDE = "jaxgrader.feedback.HideTests"

NO_FEEDBACK = (
    "No feedback is made: nbgrader_config.py did not load to its end, or leaves out "
    "jaxgrader's HideTests, and hidden tests would be shown. See the error above, or "
    "`c.GenerateFeedback.preprocessors`; mend it, then run the command again."
)

NO_CONFIGURATION = (
    "Nothing is graded: nbgrader_config.py did not load to its end, or leaves out "
    "jaxgrader's Grade or SaveAutoGrades. See the error above, or its lists in "
    "`c.Autograde`; mend it, then run the command again."
)
NOT_GRADED = "Not graded, see the messages above: {folders}."
NOT_READABLE = (
    "{folder}: {why}. The files are left as they are and nothing is graded.{earlier} "
    "Ask the student to submit again, or mend it, then run "
    "`nbgrader autograde {assignment} --student={student}`."
)
EARLIER = (
    " The result and the score of an earlier submission still stand, and wait for "
    "manual grading."
)
EMPTY_SUBMISSION = (
    "{folder} is empty: {missing} is missing and nothing is graded.{earlier} If the "
    "student has it, collect it again or put it there, then run "
    "`nbgrader autograde {assignment} --student={student}`."
)
MISSING_NOTEBOOK = (
    "{folder} lacks {missing}, which scores 0. If the student has it, put it there, "
    "then run `nbgrader autograde {assignment} --student={student} --force`."
)
RENAMED_NOTEBOOK = (
    "it lacks {missing}, but has {unknown}, which is not part of the assignment"
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
    "Check the name, and that this is the course folder. Its assignments: {names}."
)
