"""The program `jaxgrader`, as a person runs it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

from tests.conftest import BARE, DOUBLE, Course, nbgrader_cell, notebook_of

PROGRAM = Path(sys.executable).parent / "jaxgrader"


@pytest.fixture
def runtime() -> Iterator[str]:
    """A folder in which no fork server runs yet; its path is short."""
    with tempfile.TemporaryDirectory(prefix="jg-") as folder:
        yield folder


def jaxgrader(
    *arguments: str, cwd: Path, input: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the program with the bare environment."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=cwd,
        env={**BARE, "HOME": str(cwd), **env},
        input=input,
        capture_output=True,
        text=True,
        check=False,
    )


def test_install_registers_a_kernel_that_jupyter_finds(tmp_path: Path) -> None:
    done = jaxgrader("install", "--prefix", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "share" / "jupyter" / "kernels" / "jax-sandboxed"
    spec = json.loads((path / "kernel.json").read_text())
    assert spec["display_name"] == "JAX (sandboxed)"
    provisioner = spec["metadata"]["kernel_provisioner"]["provisioner_name"]
    assert provisioner == "jaxgrader"
    assert spec["argv"][0] == sys.executable
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "kernelspec", "list"],
        env={**BARE, "JUPYTER_PATH": str(tmp_path / "share" / "jupyter")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"jax-sandboxed    {path}" in " ".join(listed.stdout.split(" "))


def test_doctor_says_what_this_machine_gives(tmp_path: Path) -> None:
    done = jaxgrader("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "ok      level strict: a kernel started and answered",
        "ok      bubblewrap: bubblewrap ",
        "ok      Landlock: ABI ",
        "read back: yes",
        "jaxlib ",
    ):
        assert line in done.stdout


def test_doctor_without_bubblewrap_says_how_to_get_it(
    tmp_path: Path, runtime: str
) -> None:
    # Nor is there a fork server that still runs from before.
    nothing = {"PATH": str(tmp_path), "JAXGRADER_RUNTIME_DIR": runtime}
    done = jaxgrader("doctor", cwd=tmp_path, **nothing)
    assert done.returncode == 1
    assert "MISSING bubblewrap: not installed" in done.stdout
    assert "sudo apt-get install bubblewrap" in done.stdout
    assert "MISSING level strict" in done.stdout


def test_warm_fills_the_cache_for_all_submissions(
    new_course: Callable[[], Course], tmp_path: Path
) -> None:
    course = new_course()
    code = f"import jax\njax.jit(lambda x: x + {os.getpid()})(1)"
    course.write_source("ps", "p", notebook_of(new_code_cell(code)))
    cache = {"JAXGRADER_CACHE_DIR": str(tmp_path / "cache")}
    first = jaxgrader("warm", "ps", cwd=course.root, **cache)
    assert first.returncode == 0, first.stderr
    assert "source/ps/p.ipynb: 0 programs" not in first.stdout
    assert list((tmp_path / "cache").glob("jaxlib-*/jit_*-cache"))
    again = jaxgrader("warm", cwd=course.root, **cache)
    assert "source/ps/p.ipynb: 0 programs were new" in again.stdout


def test_warm_keeps_what_tests_compile_apart(
    new_course: Callable[[], Course], tmp_path: Path
) -> None:
    course = new_course()
    source = notebook_of(
        new_code_cell("import jax"),
        nbgrader_cell("solution", "answer", "def f(x): return x + 1"),
        nbgrader_cell(
            "test",
            "check",
            "def secret(x): return x * 7\nassert jax.jit(secret)(f(1)) == 14",
            1,
        ),
    )
    course.write_source("ps", "p", source)
    cache = {"JAXGRADER_CACHE_DIR": str(tmp_path / "cache")}
    done = jaxgrader("warm", "ps", cwd=course.root, **cache)
    assert done.returncode == 0, done.stderr
    found = {path.parent.name for path in (tmp_path / "cache").rglob("*jit_secret*")}
    assert {"ps"} <= found <= {"ps", "ps.new"}  # and where it was collected


def test_warm_without_a_notebook_says_where_it_looked(tmp_path: Path) -> None:
    done = jaxgrader("warm", "nosuch", cwd=tmp_path)
    assert done.returncode == 1
    assert "source/nosuch: no notebook there" in done.stdout + done.stderr


def test_generate_says_when_a_solution_fails_its_own_test(
    new_course: Callable[[], Course],
) -> None:
    course = new_course()
    test = nbgrader_cell("test", "t", "assert 1 == 2", points=1)
    course.write_source("ps", "p", notebook_of(test))
    (done,) = course.nbgrader("generate_assignment ps")
    assert done.status == 0
    assert "its own solution fails the test 't'" in done.log


def test_a_machine_without_sandbox_can_author_and_cannot_grade(
    new_course: Callable[[], Course], tmp_path: Path, runtime: str
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    nothing = {"PATH": str(tmp_path), "JAXGRADER_RUNTIME_DIR": runtime}
    (done,) = course.nbgrader("generate_assignment ps", env=nothing)
    assert done.status == 0, done.log
    assert "The compilation cache was not filled" in done.log
    course.hand_out("ps", "someone")
    (done,) = course.nbgrader("autograde ps", env=nothing)
    assert done.status == 1
    assert "bubblewrap (the program bwrap) is missing" in done.log
    assert set(course.scores("someone", "ps").values()) == {None}


def test_less_than_strict_shows_in_every_result(
    new_course: Callable[[], Course],
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    course.hand_out("ps", "someone")
    for level in ("basic", "none"):
        course.nbgrader(f"autograde ps --force --Sandbox.level={level}")
        path = course.root / "autograded" / "someone" / "ps" / "p.ipynb"
        cells = json.loads(path.read_text())["cells"]
        tests = [c for c in cells if c["metadata"].get("nbgrader", {}).get("grade")]
        assert tests
        for cell in tests:
            assert f"sandbox level '{level}', not 'strict'" in str(cell["outputs"])
