"""Who holds a course, and who may be stopped: nobody but a batch that holds it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxgrader.errors import GraderError
from jaxgrader.lock import FILE, Holder, Lock, born, myself

#: A batch's part in this: it takes the lock, says so, and ends well when interrupted.
BATCH = """
import sys
from pathlib import Path
from jaxgrader.lock import Lock
with Lock(Path(sys.argv[1]), batch=True):
    try:
        print("held", flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        sys.exit(7)
"""


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a course."""
    with subprocess.Popen(
        [sys.executable, "-c", BATCH, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write(root: Path, **words: Any) -> None:
    """Let the lock's file say something else."""
    said = json.loads((root / FILE).read_text())
    (root / FILE).write_text(json.dumps({**said, **words}))


def test_a_holder_is_known_until_it_lets_go(tmp_path: Path) -> None:
    assert Holder.of(tmp_path) is None
    with Lock(tmp_path):
        held = Holder.of(tmp_path)
        assert held is not None
        assert held.born == born(held.pid) == myself()["born"]
        assert not held.mine, "it is no batch"
    assert Holder.of(tmp_path) is None


def test_a_batch_is_interrupted(tmp_path: Path, batch: subprocess.Popen[str]) -> None:
    held = Holder.of(tmp_path)
    assert held is not None
    assert held.mine
    held.interrupt(tmp_path)
    assert batch.wait() == 7
    assert Holder.of(tmp_path) is None


def test_a_killed_batch_holds_nothing(
    tmp_path: Path, batch: subprocess.Popen[str]
) -> None:
    batch.kill()
    assert not born(0)
    while born(batch.pid):  # until it is a zombie, which nobody has collected
        pass
    assert (tmp_path / FILE).read_text()
    assert Holder.of(tmp_path) is None
    batch.wait()


def test_an_id_that_somebody_else_has_now_is_nobody(
    tmp_path: Path, batch: subprocess.Popen[str]
) -> None:
    held = Holder.of(tmp_path)
    assert held is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        write(tmp_path, pid=other.pid)
        assert Holder.of(tmp_path) is None
        # Of one that was alive when it was looked up, too.
        Holder(**{**vars(held), "pid": other.pid}).interrupt(tmp_path)
        assert other.poll() is None
        other.kill()


def test_a_process_that_does_not_hold_the_course_is_left_alone(
    tmp_path: Path, batch: subprocess.Popen[str]
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        write(tmp_path, pid=other.pid, born=born(other.pid))
        forged = Holder.of(tmp_path)
        assert forged is not None
        forged.interrupt(tmp_path)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("words", [{"host": "elsewhere"}, {"batch": False}])
def test_what_may_not_be_stopped_is_named(
    tmp_path: Path, batch: subprocess.Popen[str], words: dict[str, Any]
) -> None:
    write(tmp_path, **words)
    held = Holder.of(tmp_path)
    assert held is not None
    assert not held.mine
    with pytest.raises(GraderError, match=rf"process {batch.pid} on "):
        held.interrupt(tmp_path)
    assert batch.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}'])
def test_a_file_that_says_nothing_is_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(text)
    assert Holder.of(tmp_path) is None
