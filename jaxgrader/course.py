"""What a course has to grade: its submissions, what they depend on, jobs of them."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from nbgrader.api import MissingEntry
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from jaxgrader.archives import pack
from jaxgrader.converters import Autograde
from jaxgrader.errors import CourseError, SubmissionError
from jaxgrader.kernel.sandbox import Limits
from jaxgrader.preprocessors import RestoreCells
from jaxgrader.results import Job
from jaxgrader.rows import Submission
from jaxgrader.store import Entry, State, Store, storable
from jaxgrader.worker import versions

#: Settings that tell where things are and how a command runs (so do all that end in
#: "App"): no result depends on them, and a database's password is nothing for workers.
NOT_FOR_WORKERS = {
    "Application",
    "AssignLatePenalties",
    "BaseConverter",
    "CourseDirectory",
    "Exchange",
    "ExchangeFactory",
    "GenerateAssignment",
    "GenerateFeedback",
    "NbGrader",
}


class Need(Enum):
    """Why a submission is to be graded, or is not."""

    MISSING = "missing"
    STALE = "stale"
    NONE = "none"


@dataclass(frozen=True)
class Assignment:
    """An assignment as workers need it."""

    name: str
    source: bytes
    #: By notebook, what `RestoreCells` restores it from.
    notebooks: Mapping[str, Any]
    #: Digest of all that a result depends on but the submission.
    tests: str


@dataclass(frozen=True)
class Readiness:
    """What a worker of a cluster is told when it joins."""

    versions: Mapping[str, str]
    config: Mapping[str, Any]
    #: Archives of the assignments' folders in source/, by assignment.
    sources: Mapping[str, bytes]


class Course:
    """A course directory with its settings, and what the batch reads of it."""

    def __init__(
        self, coursedir: CourseDirectory, config: Config, store: Store
    ) -> None:
        self.coursedir, self.config, self.store = coursedir, config, store
        #: By assignment, the students whose submissions count; None for all.
        self.these: Mapping[str, Collection[str] | None] | None = None
        self.limits = Limits(config=config)
        self.settings: dict[str, Any] = {
            name: portable(f"c.{name}", without_hooks(section))
            for name, section in config.items()
            if name not in NOT_FOR_WORKERS and not name.endswith("App")
        }
        self.settings["CourseDirectory"] = {"ignore": list(coursedir.ignore)}
        self.versions = versions()
        self.converter = Autograde(coursedir=coursedir, config=config)

    def call_hook(self, name: str, submission: Submission) -> None:
        """Call nbgrader's hook before or after a submission is graded, if there is one.

        It gets what nbgrader gives it; where it fails, the class goes on.
        """
        hook = getattr(self.converter, name)
        if hook is None:
            return
        notebooks = sorted(map(str, submission.folder.glob("*.ipynb")))
        try:
            hook(
                assignment=submission.assignment,
                student=submission.student,
                notebooks=notebooks,
            )
        except Exception:  # the course author's code
            who = f"{submission.assignment} {submission.student}"
            self.converter.log.exception(HOOK_FAILED.format(name=name, who=who))

    def names(self) -> list[str]:
        """Return the assignments that are released and known to the gradebook."""
        released = Path(self.coursedir.root, self.coursedir.release_directory)
        known = {each.name for each in self.store.gradebook.assignments}
        return sorted(path.name for path in released.glob("*/") if path.name in known)

    def assignment(self, name: str) -> Assignment:
        """Read an assignment.

        Raises:
            CourseError: if the gradebook does not know it, or source/ lacks it.
        """
        try:
            notebooks = self.store.gradebook.find_assignment(name).notebooks
        except MissingEntry:
            names = ", ".join(self.names()) or "none"
            raise CourseError(UNKNOWN.format(name=name, names=names)) from None
        step = RestoreCells(config=self.config)
        step.config.CourseDirectory.root = self.coursedir.root
        originals = {
            each.name: step.original(
                each, step.order({"assignment": name, "notebook": each.name})
            )
            for each in notebooks
        }
        folder = self.coursedir.format_path(self.coursedir.source_directory, ".", name)
        try:
            source = pack(Path(folder))
        except SubmissionError as error:
            raise CourseError(f"{folder}: {error}. Mend it and try again.") from None
        if not originals or not source:
            raise CourseError(UNKNOWN.format(name=name, names=", ".join(self.names())))
        facts = [originals, self.settings, self.versions]
        digest = hashlib.sha256(source)
        digest.update(json.dumps(facts, sort_keys=True, default=repr).encode())
        return Assignment(name, source, originals, digest.hexdigest())

    def folders(self, assignment: str) -> list[Path]:
        """Return the submitted folders of the students that are asked for."""
        course = self.coursedir
        excluded = set(filter(None, course.student_id_exclude.split(",")))
        found = self.converter.submitted_folders(assignment, course.student_id)
        return [
            path
            for path in found
            if path.is_dir()
            and path.parent.name not in excluded
            and self.asked_for(assignment, path.parent.name)
            and self.has_name(path)
        ]

    def asked_for(self, assignment: str, student: str) -> bool:
        """Whether a submission is one of `these`."""
        if self.these is None:
            return True
        students = self.these.get(assignment, ())
        return students is None or student in students

    def has_name(self, folder: Path) -> bool:
        """Whether a database can hold a student's name; says so if it cannot."""
        name = folder.parent.name
        if storable(name) == name:
            return True
        self.converter.log.error(NO_NAME.format(name=ascii(name)))
        return False

    def submission(self, folder: Path, assignment: Assignment) -> Submission:
        """Return what is known of a submitted folder without opening a notebook."""
        try:
            digest = hashlib.sha256(self.files(folder))
        except SubmissionError as error:
            digest = hashlib.sha256(storable(str(error)).encode())
        # A result of some notebooks is none of all.
        digest.update(self.coursedir.notebook_id.encode())
        there = {path.stem for path in folder.glob("*.ipynb")}
        return Submission(
            student=folder.parent.name,
            assignment=assignment.name,
            folder=folder,
            submitted=digest.hexdigest(),
            tests=assignment.tests,
            timestamp=self.timestamp(folder),
            missing=tuple(sorted(assignment.notebooks.keys() - there)),
        )

    def timestamp(self, folder: Path) -> Any:
        """Return when a folder was submitted, None if it does not say."""
        try:
            return self.coursedir.get_existing_timestamp(str(folder))
        except (AttributeError, OSError, ValueError):
            return None  # the worker says what is wrong with it

    def files(self, folder: Path) -> bytes:
        """Return the archive of a submitted folder. Raises `SubmissionError`."""
        return pack(folder, self.limits.disk)

    def longest(self) -> float:
        """Return the seconds after which a worker has surely been lost."""
        known = self.store.gradebook.assignments
        return deadline(self.limits, max(len(each.notebooks) for each in known))

    def readiness(self) -> Readiness:
        """Return what a worker of a cluster needs to know before its first job."""
        sources = {name: self.assignment(name).source for name in self.names()}
        return Readiness(self.versions, self.settings, sources)

    def job(self, submission: Submission, assignment: Assignment) -> Job:
        """Return what a worker gets. Raises `SubmissionError` if it cannot be read."""
        return Job(
            student=submission.student,
            assignment=assignment.name,
            files=self.files(submission.folder),
            source=assignment.source,
            notebooks=assignment.notebooks,
            config=self.settings,
            versions=self.versions,
            only=self.coursedir.notebook_id,
        )

    def sort(
        self, submissions: Iterable[Submission], entries: Mapping[Any, Entry]
    ) -> Iterator[tuple[Submission, Need]]:
        """Tell which submissions have no result, and which have a stale one."""
        for submission in submissions:
            yield submission, self.need(submission, entries.get(submission.key))

    def standings(
        self, names: Iterable[str]
    ) -> dict[str, list[tuple[Submission, Need, State | None]]]:
        """Return where all submissions stand, by assignment."""
        entries = self.store.entries()
        found: dict[str, list[tuple[Submission, Need, State | None]]] = {}
        for name in names:
            assignment = self.assignment(name)
            folders = self.folders(name)
            submissions = (self.submission(path, assignment) for path in folders)
            found[name] = [
                (each, need, entries[each.key].state if each.key in entries else None)
                for each, need in self.sort(submissions, entries)
            ]
        return found

    def need(self, submission: Submission, entry: Entry | None) -> Need:
        """Tell whether a submission has a result, and a present one."""
        if entry is None or entry.submitted != submission.submitted:
            return Need.MISSING
        if entry.failed:
            return Need.NONE
        if not self.store.destination(submission).is_dir():
            return Need.MISSING
        return Need.STALE if entry.tests != submission.tests else Need.NONE


def read_these(lines: Iterable[str]) -> dict[str, set[str] | None]:
    """Return what records such as `jaxgrader autograde --json` prints are about.

    Without a student, a record is about the whole assignment. Raises `CourseError`.
    """
    found: dict[str, set[str] | None] = {}
    for line in filter(str.strip, lines):
        try:
            record = json.loads(line)
            name, student = record["assignment"], record.get("student")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CourseError(NO_RECORD.format(line=line.strip()[:80])) from None
        if not (isinstance(name, str) and isinstance(student, str | None)):
            raise CourseError(NO_RECORD.format(line=line.strip()[:80]))
        students = found.setdefault(name, set())
        if student is None:
            found[name] = None
        elif students is not None:
            students.add(student)
    return found


def without_hooks(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a class's settings without the hooks, which the coordinator calls."""
    return {name: value for name, value in section.items() if name not in HOOKS}


def portable(name: str, value: Any) -> Any:
    """Return a setting as it travels: classes by their names.

    Raises:
        CourseError: for a class that is defined in nbgrader_config.py itself.
    """
    if isinstance(value, dict):
        return {key: portable(f"{name}.{key}", each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(name, each) for each in value]
    if not callable(value):
        return value
    path = f"{value.__module__}.{value.__qualname__}"
    try:
        found = import_item(path)
    except ImportError:
        found = None
    if found is not value:
        raise CourseError(NOT_PORTABLE.format(name=name, what=value.__qualname__))
    return path


def deadline(limits: Limits, notebooks: int) -> float:
    """Return the seconds after which a submission's worker is given up."""
    return notebooks * ((limits.wall or HOUR) + PATIENCE)


#: nbgrader's settings that are called before and after each submission.
HOOKS = BEFORE, AFTER = "pre_convert_hook", "post_convert_hook"
HOUR = 3600.0
#: Seconds for the instructor's own code in the checker, and for all else.
PATIENCE = 600.0

NO_NAME = (
    "submitted/{name}: this is no name for a student, since it is not UTF-8. Rename "
    "the folder, then run the same command again."
)
HOOK_FAILED = "c.Autograde.{name} failed for {who}, which is graded all the same."
NOT_PORTABLE = (
    "{name} in nbgrader_config.py names {what}, which workers cannot import. Put it "
    "into a module that is installed in the course's environment, then try again."
)
NO_RECORD = (
    "Standard input has a line that names no submission: {line!r}. With --these it is "
    'lines like {{"assignment": "ps1", "student": "ada"}}. Nothing was graded.'
)
UNKNOWN = (
    "The gradebook has no assignment {name!r} with notebooks. Check the name, or run "
    "`nbgrader generate_assignment {name}` first. It has: {names}."
)
