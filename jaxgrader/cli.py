"""The program `jaxgrader`: where the rooms meet.

Its subcommands read the course's nbgrader_config.py, as nbgrader's do.
"""

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ipykernel.kernelspec import make_ipkernel_cmd, write_kernel_spec
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.application import JupyterApp
from nbgrader.apps.baseapp import NbGrader, nbgrader_aliases, nbgrader_flags
from rich.console import Console
from traitlets import Bool, Enum, Integer, Unicode

from jaxgrader import __version__, doctor
from jaxgrader.authoring import WarmCache
from jaxgrader.autograde import Batch, Finished, Plan, check_machine, prepare
from jaxgrader.batch.dask import dask
from jaxgrader.batch.jobs import Slots
from jaxgrader.batch.local import PRELOAD, local, serial
from jaxgrader.converters import Autograde
from jaxgrader.course import Course, read_these
from jaxgrader.errors import JaxgraderError
from jaxgrader.lab.install import install
from jaxgrader.preprocessors import KERNEL
from jaxgrader.reporting.terminal import (
    Line,
    Screen,
    batch_table,
    counts,
    next_steps,
    standing_records,
    status_table,
)
from jaxgrader.store import State, Store, explained


class Command(JupyterApp):
    """A subcommand; the course is the current directory."""

    version = __version__
    config_file_name = Unicode("nbgrader_config")


class InstallApp(Command):
    """Register the kernelspec and the panel."""

    name = "jaxgrader-install"
    description = (
        "Register the kernel 'JAX (sandboxed)' for this Python environment, so that "
        "nbgrader, JupyterLab and any other Jupyter client can start it; and the Jax "
        "Grader panel, for course staff in JupyterLab."
    )
    user = Bool(False, help="Register it for this user, not for this environment.")
    user.tag(config=True)
    prefix = Unicode("", help="Register it below this prefix instead.").tag(config=True)
    aliases = {"prefix": "InstallApp.prefix"}  # noqa: RUF012
    flags = {"user": ({"InstallApp": {"user": True}}, user.help)}  # noqa: RUF012

    def start(self) -> None:
        super().start()
        spec = {**doctor.kernel_spec(), "argv": make_ipkernel_cmd()}
        with tempfile.TemporaryDirectory() as folder:
            path = write_kernel_spec(Path(folder, KERNEL), overrides=spec)
            prefix = None if self.user else self.prefix or sys.prefix
            target = KernelSpecManager().install_kernel_spec(
                path, KERNEL, user=self.user, prefix=prefix
            )
        print(f"Registered the kernel {spec['display_name']!r} in {target}")
        panel = install(self.prefix, user=self.user)
        print(f"Registered the panel 'Jax Grader' in {panel}")


class DoctorApp(Command):
    """Say what this machine gives."""

    name = "jaxgrader-doctor"
    description = (
        "Check what this machine gives, layer by layer, and say how to get what is "
        "missing. Ends with status 1 if c.Sandbox.level cannot be given."
    )

    def start(self) -> None:
        super().start()
        good = True
        for line in doctor.examine(self.config):
            good = good and (line.good or not line.needed)
            mark = "ok     " if line.good else "MISSING" if line.needed else "-      "
            print(f"{mark} {line.name}: {line.seen}", flush=True)
            if line.how and not line.good:
                print(f"        {line.how}")
        self.exit(0 if good else 1)


class WarmApp(Command):
    """Fill the compilation cache."""

    name = "jaxgrader-warm"
    description = (
        "Run the instructor's notebooks of the named assignments (of all, if none is "
        "named) and keep what JAX compiles, for the kernels of all submissions. "
        "`nbgrader generate_assignment` does it, too."
    )

    def start(self) -> None:
        super().start()
        names = self.extra_args or [
            path.name for path in sorted(Path("source").iterdir())
        ]
        for name in names:
            self.warm(Path("source", name))

    def warm(self, folder: Path) -> None:
        """Run all notebooks of one assignment."""
        notebooks = sorted(folder.glob("*.ipynb"))
        if not notebooks:
            self.exit(f"{folder}: no notebook there. Run this in the course's folder.")
        for path in notebooks:
            count = WarmCache(parent=self).warm(path)
            print(f"{path}: {count} programs were new to the compilation cache")


class BatchApp(NbGrader):
    """Grade the class."""

    name = "jaxgrader-autograde"
    version = __version__
    description = (
        "Autograde the class: all submissions of the named assignments (of all that "
        "are released, if none is named), on all cores, each in a sandboxed kernel. "
        "What has a result is not graded again, so the same command goes on where an "
        "earlier one was stopped."
    )
    examples = """
        jaxgrader autograde
        jaxgrader autograde nnx-fori-loop --student=a*
        jaxgrader autograde --stale
        jaxgrader autograde nnx-fori-loop --force
    """

    workers = Integer(
        os.cpu_count() or 1, min=1, help="How many submissions to grade at once."
    ).tag(config=True)
    executor = Enum(
        ["local", "serial", "dask"],
        "local",
        help="Where: in processes here, one after the other, or on a Dask cluster.",
    ).tag(config=True)
    scheduler = Unicode(
        "", help="The address of the Dask scheduler, for example tls://head:8786."
    ).tag(config=True)
    tls_ca = Unicode("", help="The cluster's certificate authority.").tag(config=True)
    tls_cert = Unicode("", help="This client's certificate.").tag(config=True)
    tls_key = Unicode("", help="This client's key.").tag(config=True)
    force = Bool(False, help="Grade all of them again.").tag(config=True)
    missing = Bool(False, help="Grade what has no result.").tag(config=True)
    stale = Bool(
        False, help="Grade again what was graded by other tests or settings."
    ).tag(config=True)
    dry_run = Bool(False, help="Say what would be graded, and end.").tag(config=True)
    json = Bool(False, help="Print a line of JSON for each submission.").tag(
        config=True
    )
    these = Bool(
        False, help="Grade what standard input names, in lines such as --json prints."
    ).tag(config=True)

    aliases = {  # noqa: RUF012
        **nbgrader_aliases,
        "course": "CourseDirectory.course_id",
        "workers": "BatchApp.workers",
        "executor": "BatchApp.executor",
        "scheduler": "BatchApp.scheduler",
        "tls-ca": "BatchApp.tls_ca",
        "tls-cert": "BatchApp.tls_cert",
        "tls-key": "BatchApp.tls_key",
        "timeout": "Execute.timeout",
    }
    flags = {  # noqa: RUF012
        **nbgrader_flags,
        **{
            name.replace("_", "-"): ({"BatchApp": {name: True}}, trait.help)
            for name, trait in {
                "force": force,
                "missing": missing,
                "stale": stale,
                "dry_run": dry_run,
                "json": json,
                "these": these,
            }.items()
        },
    }

    def start(self) -> None:
        super().start()
        with explained(self.coursedir.db_url):
            status = self.grade()
        sys.exit(status)

    def grade(self) -> int:
        """Grade what there is to grade; return the exit status."""
        store = Store(self.coursedir, self.permissions())
        try:
            course = Course(self.coursedir, self.config, store)
            course.converter.require_our_steps()
            if self.these:
                course.these = read_these(sys.stdin)
            batch = Batch(course, self.config, self.log)
            if self.dry_run:
                self.tell(self.plan(batch))
                return 0
            with store.lock():
                return self.run(batch)
        finally:
            store.close()

    def plan(self, batch: Batch) -> Plan:
        """Choose what to grade; say so."""
        chosen = self.missing or self.stale
        names = self.extra_args or list(batch.course.these or batch.course.names())
        plan = batch.plan(
            names,
            force=self.force,
            missing=self.missing or not chosen,
            stale=self.stale,
        )
        nothing = not (plan.todo or plan.stale or plan.done)
        if nothing:
            for name in names:
                self.log.error(batch.course.converter.no_submission(name))
        self.log.info(
            PLAN.format(todo=len(plan.todo), done=len(plan.done), stale=len(plan.stale))
        )
        return plan

    def run(self, batch: Batch) -> int:
        """Grade a plan, with the course held; return the exit status."""
        lines: list[Line] = []
        plan = Plan()
        with self.interruptible():
            try:
                batch.store.recover()
                plan = self.plan(batch)
                batch.store.mark_stale(plan.newly_stale, plan.stale_no_more)
                self.grade_all(batch, plan, lines)
            except KeyboardInterrupt:
                self.log.error(STOPPED.format(done=len(lines), todo=len(plan.todo)))
                return COULD_NOT_RUN
            finally:
                batch.store.end_batch()
        self.summarise(lines)
        human = any(line.state is not State.GRADED for line in lines)
        return NEEDS_HUMAN if human else GRADED

    def grade_all(self, batch: Batch, plan: Plan, lines: list[Line]) -> None:
        """Grade; keep a line of each submission."""
        if not plan.todo:
            return
        console = printer(120, sys.stderr)
        alive = console.is_terminal and not self.json and self.log_level <= logging.INFO
        screen = Screen(len(plan.todo), console, self.log) if alive else None
        slots = self.slots(batch.course, len(plan.todo))
        try:
            with screen or contextlib.nullcontext():
                if screen is not None:
                    batch.on_start = screen.started
                for finished in batch.run(plan, slots):
                    lines.append(Line.of_finished(finished))
                    (screen.finished if screen else self.show)(finished)
        finally:
            slots.stop()

    def summarise(self, lines: list[Line]) -> None:
        """Say how the batch ended, and what there is to do."""
        states = Counter(line.state for line in lines)
        self.log.info(SUMMARY.format(counts=counts(states) or "nothing to do"))
        if lines and not self.json and self.log_level <= logging.INFO:
            printer(120).print(batch_table(lines))
        for step in next_steps(lines):
            self.log.warning(step)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C stop the batch; a second one ends this process at once."""

        def now(signum: int, frame: object) -> None:
            os.write(2, STOPPED_NOW.encode())
            os._exit(COULD_NOT_RUN)

        def first(signum: int, frame: object) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, now)
            # It may come while a connection is handed back, and SQLAlchemy tells of
            # that at length: the transaction is undone, and there is nothing to do.
            logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
            raise KeyboardInterrupt

        before = {n: signal.signal(n, first) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def slots(self, course: Course, jobs: int) -> Slots:
        """Return where the jobs run.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
        """
        if self.executor == "dask":
            files = {"ca": self.tls_ca, "cert": self.tls_cert, "key": self.tls_key}
            ready = functools.partial(prepare, course.readiness())
            address, patience = self.scheduler, course.longest()
            return dask(address, files, ready, patience, self.log)
        check_machine(self.config)
        if self.executor == "serial":
            return serial()
        count = min(self.workers, jobs)
        return local(count, course.longest(), PRELOAD)

    def permissions(self) -> int:
        """Return the permissions of autograded files: nbgrader's setting."""
        converter = Autograde(coursedir=self.coursedir, parent=self)
        return int(str(converter.permissions), 8)

    def tell(self, plan: Plan) -> None:
        """Print what would be graded."""
        for why, submissions in (("grade", plan.todo), ("stale", plan.stale)):
            for each in submissions:
                print(f"{why} {each.assignment} {each.student}")

    def show(self, finished: Finished) -> None:
        """Say how a submission ended."""
        submission, result = finished.submission, finished.result
        score, of = finished.points
        if self.json:
            print(
                json.dumps(
                    {
                        "assignment": submission.assignment,
                        "student": submission.student,
                        "state": finished.state,
                        "auto_score": score,
                        "max_score": of,
                        "seconds": result.seconds,
                        "sentence": result.unreadable or result.internal,
                    }
                ),
                flush=True,
            )
        else:
            self.log.info(
                DONE.format(
                    number=finished.number,
                    total=finished.total,
                    assignment=submission.assignment,
                    student=submission.student,
                    state=finished.state,
                    score=score,
                    of=of,
                    seconds=result.seconds,
                )
            )


def printer(width: int, stream: TextIO | None = None) -> Console:
    """Return a console for tables: as wide as the terminal, else so wide."""
    stream = stream or sys.stdout
    if stream.isatty():
        # Not what COLUMNS says: JupyterLab's terminals are born with another width.
        width = os.get_terminal_size(stream.fileno()).columns or width
    return Console(file=stream, width=width)


class StatusApp(NbGrader):
    """Say where submissions stand."""

    name = "jaxgrader-status"
    version = __version__
    description = (
        "Say where the submissions of the named assignments (of all that are released, "
        "if none is named) stand, while a batch runs, too."
    )
    json = Bool(False, help="Print a line of JSON for each submission.").tag(
        config=True
    )
    aliases = {**nbgrader_aliases}  # noqa: RUF012
    flags = {  # noqa: RUF012
        **nbgrader_flags,
        "json": ({"StatusApp": {"json": True}}, json.help),
    }

    def start(self) -> None:
        super().start()
        with explained(self.coursedir.db_url):
            store = Store(self.coursedir)
            course = Course(self.coursedir, self.config, store)
            rows = course.standings(self.extra_args or course.names())
            store.close()
        if self.json:
            for line in standing_records(rows):
                print(json.dumps(line))
        else:
            printer(140).print(status_table(rows))


#: Exit statuses of `jaxgrader autograde`.
GRADED, COULD_NOT_RUN, NEEDS_HUMAN = 0, 1, 3

SUMMARY = "Done: {counts}."
PLAN = "{todo} submissions to grade, {done} up to date, {stale} stale (see --stale)."
DONE = (
    "[{number}/{total}] {assignment} {student}: {state}, {score:g} of {of:g} points, "
    "{seconds:.1f} s"
)
STOPPED = (
    "Stopped: {done} of {todo} submissions are graded and saved. Run the same command "
    "again for the rest."
)
STOPPED_NOW = "Stopped at once. Run the same command again for the rest.\n"


REPORTS = "jaxgrader.cli_reports"


class JaxgraderApp(Command):
    """The program itself."""

    name = "jaxgrader"
    description = "Grade a JAX and Flax course with nbgrader."
    subcommands = {  # noqa: RUF012
        "autograde": (BatchApp, "Grade the class: all submissions, on all cores"),
        "status": (StatusApp, "Say where submissions stand, at any moment"),
        # By name: their libraries are of no use to a batch.
        "export": (f"{REPORTS}.ExportApp", "Write scores as CSV or Parquet"),
        "report": (f"{REPORTS}.ReportApp", "Write the class report, a page of HTML"),
        "install": (InstallApp, "Register the kernel, and JupyterLab's panel"),
        "doctor": (DoctorApp, "Say what this machine gives, and how to get the rest"),
        "warm": (WarmApp, "Fill the compilation cache from the instructor's solutions"),
    }

    def start(self) -> None:
        super().start()
        if self.subapp is None:
            self.print_help()
            self.exit(2)


def main(argv: list[str] | None = None) -> Any:
    """Run the program; an error that somebody can mend ends it with a sentence."""
    try:
        return JaxgraderApp.launch_instance(argv)
    except JaxgraderError as error:
        sys.exit(str(error))
