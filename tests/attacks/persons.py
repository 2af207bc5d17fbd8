"""Who grades: root, or an ordinary user; and what a student of theirs goes for.

A `Person` is a driver process under somebody's uid, with a home, a course and a runtime
folder of its own. The tests' process stays who it is: it lays out the bait, and looks
afterwards at what the attack has left.
"""

import contextlib
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxgrader.kernel.usage import descendants

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: An ordinary user whom no machine knows; another one for each of pytest-xdist's.
NOBODY = 54321 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
#: What must not be found; made of parts, for attacks that search for it.
CANARY = "canary-" + "7d1f0c-secret"
#: Small, so that attacks end soon; and large enough for a cell with JAX.
LIMITS: dict[str, Any] = {
    "memory": 512 << 20,
    "disk": 16 << 20,
    "processes": 96,
    "open_files": 256,
    "output": 10_000,
}
#: Separates what an attack prints from what it returns.
MARK = "\x1e"


#: The arguments of one attempt.
Case = tuple[Any, ...]


@dataclass
class Result:
    """What a cell, or a program outside, gave."""

    status: str
    text: str
    size: int

    @property
    def value(self) -> Any:
        """What the attack has returned."""
        assert self.status == "ok", self.text
        return json.loads(self.text.rpartition(MARK)[2].split("\n")[0])


class Person:
    """Somebody who grades; `course` is what they must keep from students."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        self.home, self.course, self.run = (root / x for x in ("home", "course", "run"))
        self.cache = root / "cache"
        self.submission = self.course / "submitted/mallory/hw1"
        make_course(self)
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self.become(), sys.executable, "-P", "-m", "tests.attacks.driver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment(),
                cwd=self.home,
            )
        self.uid, capabilities = self.ask("identity")
        assert name == "root" or (self.uid and not int(capabilities, 16))

    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "JAXGRADER_RUNTIME_DIR": str(self.run),
            "JAXGRADER_CACHE_DIR": str(self.cache),
            "GRADER_TOKEN": CANARY,
        }

    @property
    def pid(self) -> int:
        return self.process.pid

    def become(self) -> list[str]:
        """Return the command that runs a program as this person."""
        if self.name == "root" or os.geteuid() != 0:
            return []
        user = f"--reuid={NOBODY} --regid={NOBODY} --clear-groups"
        script = f'{uncover()}\nexec setpriv {user} "$@"'
        return ["unshare", "--mount", "sh", "-ec", script, "sh"]

    def ask(self, op: str, **arguments: Any) -> Any:
        """Give the driver a command; return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the driver died: {(self.root / 'log').read_text()}"
        answer = json.loads(line)
        if "error" in answer:
            raise DriverError(answer["error"])
        return answer["value"]

    def outside(self, code: str) -> Result:
        """Run Python as this person, in no sandbox: the bait must be real."""
        return Result(**self.ask("outside", code=code))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function` as this person, in no sandbox; return what it returns."""
        return self.outside(calling(function, *arguments)).value

    def can(self, function: Callable[..., Any], cases: list[Case]) -> None:
        """Check that nothing refuses `function` to this person, in no sandbox."""
        results = self.outside(trying(function, cases)).value
        assert [one for one in results if not one.startswith(GAVE)] == []

    def close(self) -> None:
        """End the driver, and what it has started, even if an attack succeeded."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        started = [os.pidfd_open(int(pid)) for pid in descendants(str(self.pid))]
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pidfd in started:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


class DriverError(Exception):
    """The driver could not do what it was asked for."""


@dataclass
class Kernel:
    """A kernel that a student's code runs in."""

    person: Person
    number: int
    sockets: Path
    key: str
    #: The name of its pid namespace.
    namespace: str = field(init=False)
    #: The first process of its jail, and the kernel itself, seen from here.
    guard: int = field(init=False)
    pid: int = field(init=False)

    def __post_init__(self) -> None:
        code = "import os; print(os.readlink('/proc/self/ns/pid'), os.getpid())"
        answer = self.run(code)
        assert answer.status == "ok", answer.text
        self.namespace, inside = answer.text.split()
        (self.pid,) = (pid for pid in self.processes() if numbers(pid)[-1] == inside)
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.guard = int(status.partition("PPid:")[2].split()[0])
        # Held, its name is given to no other kernel's when this one has ended.
        held = os.open(f"/proc/{self.pid}/ns/pid", os.O_RDONLY)
        weakref.finalize(self, os.close, held)

    def processes(self) -> list[int]:
        """Return the pids of its processes, seen from here."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/pid") == self.namespace:
                    found.append(int(folder.name))
        return found

    def run(self, code: str) -> Result:
        """Run a cell to its end, or to the kernel's: status "dead"."""
        return Result(**self.person.ask("run", kernel=self.number, code=code))

    def begin(self, code: str) -> None:
        """Begin to run a cell that will not end."""
        self.person.ask("begin", kernel=self.number, code=code)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function` in the kernel; return what it returns."""
        return self.run(calling(function, *arguments)).value

    def refuses(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Check that the operating system refuses what `function` tries."""
        result = self.run(calling(function, *arguments))
        assert result.status == "error", result.text
        assert re.search(r"^\w*Error$", result.text.split("\n")[0]), result.text
        assert "[Errno" in result.text, result.text

    def cannot(self, function: Callable[..., Any], cases: list[Case]) -> None:
        """Check that the operating system refuses `function` all these arguments."""
        results = self.run(trying(function, cases)).value
        tried = zip(cases, results, strict=True)
        assert [one for one in tried if not one[1].startswith(REFUSED)] == []

    def wait(self) -> str:
        """Wait for its end; return the sentence about it."""
        return str(self.person.ask("wait", kernel=self.number))

    def stop(self) -> None:
        self.person.ask("stop", kernel=self.number)

    def remains(self) -> list[str]:
        """Return what is left of it on this machine: processes, files."""
        found = [str(self.sockets)] if self.sockets.exists() else []
        if Path(f"/proc/{self.guard}").exists():
            found.append(f"guard {self.guard}")
        return found + [f"process {pid}" for pid in self.processes()]

    def vanishes(self) -> bool:
        """Wait until nothing is left of it: jupyter_client waits five seconds only."""
        end = time.monotonic() + 30
        while self.remains() and time.monotonic() < end:
            os.sched_yield()
        return not self.remains()


def numbers(pid: int) -> list[str]:
    """Return a process's pid in each namespace, this machine's first."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return [""]
    return status.partition("NSpid:")[2].split("\n")[0].split()


def calling(function: Callable[..., Any], *arguments: Any) -> str:
    """Return a program that calls `function` and prints what it returns."""
    source = textwrap.dedent(inspect.getsource(function))
    values = ", ".join(map(repr, arguments))
    last = f"print({MARK!r} + json.dumps({function.__name__}({values})))"
    return f"from typing import Any\n{source}\nimport json\n{last}"


def trying(function: Callable[..., Any], cases: list[Case]) -> str:
    """Return a program that calls `function` with all arguments; prints what came."""
    source = textwrap.dedent(inspect.getsource(function))
    return TRYING.format(source=source, name=function.__name__, cases=cases, mark=MARK)


TRYING = """
from typing import Any
{source}
import json
results = []
for case in {cases!r}:
    try:
        results.append(f"gave {{str({name}(*case))[:100]}}")
    except OSError as error:
        results.append(f"{{'refused' if error.errno else 'failed'}}: {{error}}")
    except Exception as error:
        results.append(f"failed: {{error!r}}")
print({mark!r} + json.dumps(results))
"""
#: How these results begin.
GAVE, REFUSED = "gave", "refused"


class Kernels:
    """Starts kernels for a person, and ends them all."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.kernels: list[Kernel] = []
        self.shared: dict[str, Kernel] = {}

    def share(
        self, name: str, files: str = "copy", **settings: dict[str, Any]
    ) -> Kernel:
        """Return a kernel that all tests of a module use."""
        kernel = self.shared.get(name)
        if kernel is None or not Path(f"/proc/{kernel.guard}").exists():
            kernel = self(self.person.submission, files, **settings)
            self.shared[name] = kernel
        return kernel

    def __call__(
        self,
        cwd: Path | None = None,
        files: str = "copy",
        **settings: dict[str, Any],
    ) -> Kernel:
        """Start a kernel: ``start(cwd=…, files="own", Limits={…}, Sandbox={…})``."""
        sandbox = {"files": files, **settings.pop("Sandbox", {})}
        limits = {**LIMITS, **settings.pop("Limits", {})}
        if cwd is None and files == "own":
            cwd = self.person.submission
        answer = self.person.ask(
            "start",
            cwd=str(cwd) if cwd else None,
            settings={"Sandbox": sandbox, "Limits": limits, **settings},
        )
        kernel = Kernel(
            self.person,
            answer["kernel"],
            Path(answer["sockets"]),
            answer["key"],
        )
        self.kernels.append(kernel)
        return kernel

    def close(self) -> None:
        """End all kernels, those that do not end, too."""
        for kernel in self.kernels:
            try:
                kernel.stop()
            except DriverError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(kernel.guard, signal.SIGKILL)


def make_course(person: Person) -> None:
    """Lay out the bait: what a student wants to read, or to change."""
    for name in ("home", "course/submitted/alice/hw1", "run", "cache"):
        (person.root / name).mkdir(parents=True)
    person.submission.mkdir(parents=True)
    bait = {
        "home/.ssh/id_ed25519": CANARY,
        "course/gradebook.db": CANARY,
        "course/source/hw1/hw1.ipynb": CANARY,
        "course/submitted/alice/hw1/hw1.py": CANARY,
        "course/submitted/mallory/hw1/mine.txt": "mine",
    }
    for name, text in bait.items():
        (person.root / name).parent.mkdir(parents=True, exist_ok=True)
        (person.root / name).write_text(text)
    if person.name == "user" and os.geteuid() == 0:
        for path in [person.root, *person.root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)


@contextlib.contextmanager
def person(name: str) -> Iterator[Person]:
    """Bring somebody to life for the time of the tests."""
    with tempfile.TemporaryDirectory(prefix="jg-", dir="/var/tmp") as folder:
        somebody = Person(name, Path(folder))
        try:
            yield somebody
            logs = [path.read_text() for path in somebody.run.glob("*/*/log")]
        finally:
            somebody.close()
        assert not [log for log in logs if "Traceback" in log]


def uncover() -> str:
    """Return a script that shows others the environment, wherever it lies.

    Root's Python is often one in a home directory that nobody else can enter. In a
    mount namespace of its own, an empty folder takes the place of the closed one, with
    only what is needed in it.
    """
    needed = {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)}
    needed |= {str(Path(sys.executable).resolve().parent.parent), str(CHECKOUT)}
    lines = ["umask 022"]
    for closed in sorted({c for path in needed if (c := closed_parent(Path(path)))}):
        inner = sorted(path for path in needed if Path(path).is_relative_to(closed))
        numbers = {path: number for number, path in enumerate(inner, 3)}
        # Bound through open descriptors: their paths are covered by then.
        lines += [f"exec {n}< {shlex.quote(path)}" for path, n in numbers.items()]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}")
        for path, n in numbers.items():
            lines.append(f"mkdir -p {shlex.quote(path)}")
            lines.append(f"mount -c --rbind /proc/self/fd/{n} {shlex.quote(path)}")
        lines += [f"exec {n}<&-" for n in numbers.values()]
    return "\n".join(lines)


def closed_parent(path: Path) -> Path | None:
    """Return the first folder on the way to `path` that others cannot enter."""
    for parent in [*reversed(path.parents), path]:
        if not parent.stat().st_mode & 0o001:
            return parent
    return None
