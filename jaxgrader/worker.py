"""Grade one submission, away from the course: what the batch's processes run.

What it is: `grade`, a function of a `Job`. A worker has a folder that looks like a
course to nbgrader's steps, with one submission at a time in it, and no gradebook: the
steps that need one are the coordinator's (`store.py`).

Guarantees: it returns a result, whatever the submission is; what it raises is about
this machine. Only the steps that `nbgrader_config.py` names touch the notebook.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import logging
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import nbformat
import traitlets.log
from nbformat.notebooknode import NotebookNode
from nbgrader import utils
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from jaxgrader import __version__
from jaxgrader.archives import pack, unpack
from jaxgrader.batch.jobs import WorkerLost
from jaxgrader.errors import GraderError, SubmissionError
from jaxgrader.grading.runner import is_test
from jaxgrader.preprocessors import (
    ORIGINAL,
    RESULTS,
    Resources,
    comment_of,
    end_slot,
    grade_id_of,
    score_of,
)
from jaxgrader.results import Job, NotebookResult, SubmissionResult
from jaxgrader.submissions import check_submission

#: Steps whose work is the coordinator's, or done by RestoreCells.
WITH_GRADEBOOK = {"SaveAutoGrades", "AssignLatePenalties", "OverwriteKernelspec"}
#: What must be the same everywhere, lest a score depend on where it was found.
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "nbgrader", "nbclient", "nbformat")

#: How the name of a workplace begins.
PREFIX = "jaxgrader-worker-"

Step = Callable[[NotebookNode, Resources], tuple[NotebookNode, Resources]]


class WrongWorker(WorkerLost):
    """This worker's packages are not the coordinator's: its scores would not count."""


def grade(job: Job) -> SubmissionResult:
    """Grade one submission.

    Raises:
        WrongWorker: if this machine has other versions of what matters.
        WorkerLost: if a process of ours was lost, or none could be made: another try
            may end otherwise.
    """
    require(job.versions)
    started, log, found = time.monotonic(), io.StringIO(), {}
    try:
        with captured(log):
            found = Workplace.own().grade(job)
    except SubmissionError as error:
        found = {"unreadable": str(error)}
    except (GraderError, OSError) as error:
        raise WorkerLost(f"{type(error).__name__}: {error}") from None
    except Exception as error:
        found = {"internal": f"{type(error).__name__}: {error}"}
    return SubmissionResult(
        student=job.student,
        assignment=job.assignment,
        **found,
        log=log.getvalue(),
        host=socket.gethostname(),
        seconds=round(time.monotonic() - started, 3),
    )


def versions() -> dict[str, str]:
    """Return the versions of all that a score can depend on."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    own = f"{__version__} ({code.hexdigest()[:12]})"
    return {"python": platform.python_version(), "jaxgrader": own, **packages}


def require(wanted: Any) -> None:
    """Raise `WrongWorker` unless this machine has the versions that are wanted."""
    if Workplace.versions is None:
        Workplace.versions = versions()
    here = Workplace.versions
    other = [
        f"{name} {here.get(name)} instead of {version}"
        for name, version in wanted.items()
        if here.get(name) != version
    ]
    if other:
        host, differences = socket.gethostname(), ", ".join(other)
        raise WrongWorker(WRONG.format(host=host, pid=os.getpid(), other=differences))


@contextlib.contextmanager
def captured(log: io.StringIO) -> Iterator[None]:
    """Write what the steps log into `log`."""
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger: Any = traitlets.log.get_logger()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Workplace:
    """A folder that looks like a course, for one submission at a time."""

    versions: dict[str, str] | None = None
    _own: "Workplace | None" = None

    def __init__(self, root: Path) -> None:
        self.root = root
        #: What lies in source/: digests of archives by assignment.
        self.sources: dict[str, str] = {}
        self.steps: tuple[str, list[Step]] = ("", [])

    @classmethod
    def own(cls) -> "Workplace":
        """Return this process's workplace; it goes with the process."""
        if cls._own is None:
            sweep()
            folder = tempfile.mkdtemp(prefix=PREFIX)
            cls._own = cls(Path(folder))
            cls._own.hold()
            Finalize(None, cls.leave, exitpriority=1)
        return cls._own

    def hold(self) -> None:
        """Show that this workplace is in use, as long as the process lives."""
        self.descriptor = os.open(self.root, os.O_RDONLY)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    @classmethod
    def leave(cls) -> None:
        """Remove this process's workplace, and end its checkers."""
        own, cls._own = cls._own, None
        if own is not None:  # first: whoever ends checkers too slowly is killed
            shutil.rmtree(own.root, ignore_errors=True)
        end_slot()

    def grade(self, job: Job) -> dict[str, Any]:
        """Grade a submission; return what a `SubmissionResult` is made of."""
        course = CourseDirectory(config=self.config(job))
        submitted = self.root / "submitted" / job.student / job.assignment
        graded = self.root / "autograded" / job.student / job.assignment
        try:
            unpack(job.files, submitted)
            self.provide_source(job)
            check_submission(submitted)
            notebooks = known_notebooks(job, submitted)
            copy_files(submitted, graded, course.ignore)
            source = self.root / "source" / job.assignment
            exempt = course.config.Autograde.get("exclude_overwriting", {})
            copy_files(source, graded, course.ignore, exempt.get(job.assignment, ()))
            results = {
                path.stem: self.notebook(path, graded, job) for path in notebooks
            }
            return {"notebooks": results, "files": pack(graded)}
        finally:
            for folder in (submitted.parent, graded.parent):
                shutil.rmtree(folder, ignore_errors=True)

    def config(self, job: Job) -> Config:
        """Return the course's settings, for the course that this workplace is."""
        ignore = job.config.get("CourseDirectory", {}).get("ignore")
        place = {"root": str(self.root), **({"ignore": ignore} if ignore else {})}
        # The kernels stay where this process may run.
        share = {"processors": sorted(os.sched_getaffinity(0))}
        sandbox = {**share, **job.config.get("Sandbox", {})}
        return Config({**job.config, "CourseDirectory": place, "Sandbox": sandbox})

    def provide_source(self, job: Job) -> None:
        """Put the assignment's files where the steps look for them."""
        digest = hashlib.sha256(job.source).hexdigest()
        if self.sources.get(job.assignment) != digest:
            if job.assignment in self.sources:
                end_slot()  # a checker has a copy of what was there before
            folder = self.root / "source" / job.assignment
            shutil.rmtree(folder, ignore_errors=True)
            unpack(job.source, folder)
            self.sources[job.assignment] = digest

    def notebook(self, path: Path, graded: Path, job: Job) -> NotebookResult:
        """Grade one notebook into the folder `graded`."""
        started = time.monotonic()
        ids = {"student": job.student, "assignment": job.assignment}
        resources: Resources = {
            "nbgrader": {**ids, "notebook": path.stem},
            "metadata": {"name": path.stem, "path": str(graded)},
            "unique_key": path.stem,
            ORIGINAL: job.notebooks[path.stem],
        }
        nb = nbformat.read(path, as_version=4)
        graded.mkdir(parents=True, exist_ok=True)
        with utils.setenv(NBGRADER_EXECUTION="autograde"):
            for step in self.steps_for(job):
                nb, resources = step(nb, resources)
        (graded / path.name).write_text(nbformat.writes(nb) + "\n", encoding="utf-8")
        results = resources[RESULTS]
        lost = [result.sentence for result in results.values() if result.again]
        if lost:
            raise WorkerLost(lost[0])
        graded_cells = [cell for cell in nb.cells if utils.is_grade(cell)]
        answers = [
            cell for cell in nb.cells if utils.is_solution(cell) or utils.is_task(cell)
        ]
        return NotebookResult(
            scores={str(grade_id_of(c)): score_of(c, results) for c in graded_cells},
            comments={str(grade_id_of(cell)): comment_of(cell) for cell in answers},
            tests=tuple(
                results[grade_id_of(cell)] for cell in filter(is_test, nb.cells)
            ),
            seconds=round(time.monotonic() - started, 3),
        )

    def steps_for(self, job: Job) -> list[Step]:
        """Return the configured steps of autograde that need no gradebook."""
        config = self.config(job)
        if self.steps[0] != repr(config):
            lists = config.Autograde
            named = [*lists.sanitize_preprocessors, *lists.autograde_preprocessors]
            self.steps = repr(config), list(map(made(config), filter(is_ours, named)))
        return self.steps[1]


def sweep() -> None:
    """Remove the workplaces of workers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def is_ours(step: Any) -> bool:
    """Whether a configured step is run by workers."""
    name = step if isinstance(step, str) else getattr(step, "__name__", "")
    return name.rpartition(".")[2] not in WITH_GRADEBOOK


def made(config: Config) -> Callable[[Any], Step]:
    """Return what makes a step of its name or class, as nbconvert does."""

    def make(step: Any) -> Step:
        found = import_item(step) if isinstance(step, str) else step
        made: Step = found(config=config) if isinstance(found, type) else found
        return made

    return make


def known_notebooks(job: Job, folder: Path) -> list[Path]:
    """Return the submitted notebooks that belong to the assignment.

    Raises:
        SubmissionError: if there is none.
    """
    found = sorted(folder.glob("*.ipynb"))
    known = [path for path in found if path.stem in job.notebooks]
    if not known:
        missing = ", ".join(f"{name}.ipynb" for name in job.notebooks)
        there = ", ".join(path.name for path in found)
        why = RENAMED if found else EMPTY
        raise SubmissionError(why.format(missing=missing, there=there))
    return [path for path in known if fnmatchcase(path.stem, job.only)]


def copy_files(source: Path, target: Path, ignore: list[str], exempt: Any = ()) -> None:
    """Copy all files but notebooks, as nbgrader does."""
    for name in utils.find_all_files(str(source), [*ignore, "*.ipynb"]):
        relative = Path(name).relative_to(source)
        if str(relative) in exempt:
            continue
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        shutil.copy(name, path)


WRONG = (
    "Worker {pid} on {host} is refused, since its scores might differ: it has {other}. "
    "Install the coordinator's versions there and start the worker again."
)
EMPTY = "it is empty: {missing} is missing"
RENAMED = "it lacks {missing}, but has {there}, which is not part of the assignment"
