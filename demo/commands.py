"""Run nbgrader commands one after the other in one process.

nbgrader takes seconds to start and a demo, or a test, gives it dozens of commands, each
in the folder and with the home of the person who types it. As a program this module
reads commands as JSON on its standard input and runs them; `run` is the other end.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

#: Opens the line that the child prints after each command; no log line starts so.
DONE = "\x1e"


@dataclass(frozen=True)
class Command:
    """One nbgrader command line: its words, and the folder and home it runs in."""

    argv: tuple[str, ...]
    cwd: str
    home: str


@dataclass(frozen=True)
class Finished:
    """A command's exit status and everything that it printed."""

    argv: tuple[str, ...]
    status: int
    log: str


def command(line: str, cwd: Path, home: Path, *more: str) -> Command:
    """Return the `Command` of the words in `line`, then `more` words as they are."""
    return Command((*line.split(), *more), str(cwd), str(home))


def run(
    commands: Iterable[Command],
    *,
    env: dict[str, str] | None = None,
    show: Callable[[str], None] = lambda line: None,
) -> list[Finished]:
    """Run the commands in one child process; `show` sees each line as it comes.

    Raises RuntimeError when the child itself fails.
    """
    waiting = list(commands)
    child = subprocess.Popen(
        [sys.executable, "-m", "demo.commands"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=Path(__file__).parent.parent,
        env={**(os.environ if env is None else env), "PYTHONUNBUFFERED": "1"},
    )
    finished: list[Finished] = []
    log: list[str] = []
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps([asdict(one) for one in waiting]))
        child.stdin.close()
        for line in child.stdout:
            if line.startswith(DONE):
                argv = waiting[len(finished)].argv
                finished.append(Finished(argv, int(line[1:]), "".join(log)))
                log.clear()
            else:
                log.append(line)
                show(line.rstrip("\n"))
    if child.returncode != 0:
        raise RuntimeError("nbgrader's process failed:\n" + "".join(log))
    return finished


def serve() -> None:
    """Run the commands that stand on the standard input."""
    from jupyter_core.application import NoStart
    from nbgrader.apps import NbGraderApp

    for raw in json.load(sys.stdin):
        os.chdir(raw["cwd"])
        os.environ["HOME"] = raw["home"]
        app = NbGraderApp.instance()
        status: object = 0
        try:
            app.initialize(list(raw["argv"]))
            app.start()
        except NoStart:
            pass  # a subcommand has done the work
        except SystemExit as error:
            status = error.code
        finally:
            app.reset()
        print(f"\n{DONE}{status if isinstance(status, int) else 1}", flush=True)


if __name__ == "__main__":
    serve()
