"""`jaxgrader autograde` and `jaxgrader status`, as processes of their own.

A batch is started in a session of its own and writes into a file: it lives on when the
browser is closed, when Jupyter is restarted, and when Jupyter is killed.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxgrader.lock import Holder

PROGRAM = [sys.executable, "-m", "jaxgrader"]
#: What a batch is asked to grade, and how its command line says so.
OPTIONS = {
    "missing": ["--missing"],
    "stale": ["--stale"],
    "missing and stale": ["--missing", "--stale"],
    "all": ["--force"],
}
#: Logs of batches that are kept.
KEPT = 20
#: Bytes of a log that are shown.
SHOWN = 200_000


class Batches:
    """The batches that this server starts on a course, and what they wrote."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".jaxgrader" / "batches"
        #: The latest that this server started, until it is seen to hold the course.
        self.child: subprocess.Popen[bytes] | None = None

    def starting(self, holder: Holder | None) -> bool:
        """Whether a batch was started that does not hold the course yet."""
        if self.child is None:
            return False
        if self.child.poll() is not None or (holder and holder.pid == self.child.pid):
            self.child = None
        return self.child is not None

    def start(
        self, what: str, these: Iterable[dict[str, str]]
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a batch; return its process, and the file that it writes into.

        Names travel in its standard input, never as arguments.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(self.folder.glob("*.log"))[: -KEPT + 1]:
            old.unlink(missing_ok=True)
        name = f"{datetime.now(UTC):%Y-%m-%d-%H%M%S-%f}.log"
        with (
            tempfile.TemporaryFile("w+") as names,
            (self.folder / name).open("w") as log,
        ):
            names.writelines(json.dumps(each) + "\n" for each in these)
            names.seek(0)
            self.child = subprocess.Popen(
                [*PROGRAM, "autograde", "--these", "--json", *OPTIONS[what]],
                cwd=self.root,
                stdin=names,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.child, self.folder / name

    def log(self, most: int = SHOWN) -> str:
        """Return what the latest batch that a panel started has written, its end."""
        logs = sorted(self.folder.glob("*.log"))
        if not logs:
            return ""
        with logs[-1].open("rb") as file:
            file.seek(max(0, logs[-1].stat().st_size - most))
            return file.read().decode(errors="replace")

    def last_words(self) -> str:
        """Return the end of that in a few lines: how it ended, or why it could not."""
        lines = [
            line
            for line in self.log(4096).splitlines()
            if line and record_in(line) is None
        ]
        return "\n".join(PREFIX.sub("", line) for line in lines[-3:])


def outcome(batch: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Wait for the end of a batch of one; return what nbgrader's pages expect of it."""
    batch.wait()
    lines = log.read_text(errors="replace").splitlines()
    records = [found for line in lines if (found := record_in(line)) is not None]
    graded = bool(records) and not any(each["sentence"] for each in records)
    said = "\n".join(line for line in lines if record_in(line) is None)
    return {"success": graded, "log": said}


def record_in(line: str) -> dict[str, Any] | None:
    """Return a batch's record of a submission; None for a line of its log."""
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict) and "sentence" in found:
            return found
    return None


#: What the log of a Jupyter application puts before each message.
PREFIX = re.compile(r"^\[\w+ \| \w+\] ")


class Survey:
    """What a course has to grade, as `jaxgrader status` tells: it reads every file.

    It takes seconds, and so it is taken when it is asked for, when a batch has ended,
    and when it is old; the ledger tells what has changed since.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        #: By assignment and student: whether there is a result, and a present one.
        self.needs: dict[tuple[str, str], str] = {}
        #: When the last one began, for people and for the ledger's clock.
        self.began = ""
        self.trouble = ""
        self.ended = -float("inf")
        self.asked = False
        self.task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Take one; while one is being taken, another one after it."""
        self.asked = True
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.take_all())

    async def take_all(self) -> None:
        while self.asked:
            self.asked = False
            await self.take()

    def age(self) -> float:
        """Return the seconds since the last one: none while one is being taken."""
        running = self.task is not None and not self.task.done()
        return 0.0 if running else time.monotonic() - self.ended

    async def take(self) -> None:
        began = datetime.now(UTC).isoformat(timespec="seconds")
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            "status",
            "--json",
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode == 0:
            self.needs = await asyncio.to_thread(read_needs, out.decode())
            self.began, self.trouble = began, ""
        else:
            self.trouble = err.decode(errors="replace").strip()[-2000:] or NO_STATUS
        self.ended = time.monotonic()


class Report:
    """The class report, as `jaxgrader report` writes it into the course."""

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / ".jaxgrader" / "report.html"
        self.one_at_a_time = asyncio.Lock()

    async def make(self, *, anonymous: bool) -> str:
        """Write it anew; return what is wrong if that cannot be done."""
        command = [*PROGRAM, "report", f"--to={self.file}"]
        async with self.one_at_a_time:
            self.file.parent.mkdir(exist_ok=True)
            process = await asyncio.create_subprocess_exec(
                *command,
                *(["--anonymous"] if anonymous else []),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            _, err = await process.communicate()
        said = err.decode(errors="replace").strip()[-2000:]
        return (said or NO_REPORT) if process.returncode else ""


def read_needs(text: str) -> dict[tuple[str, str], str]:
    """Return what `jaxgrader status --json` printed."""
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    return {(each["assignment"], each["student"]): each["need"] for each in records}


NO_REPORT = "`jaxgrader report` ended without a word. Run it in a terminal to see why."
NO_STATUS = "`jaxgrader status` ended without a word. Run it in a terminal to see why."
