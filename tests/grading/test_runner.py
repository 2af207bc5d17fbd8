"""One notebook on its way through a student's kernel and the checker: both are real."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell

from jaxgrader.errors import SandboxError
from jaxgrader.grading import checker
from jaxgrader.grading.cells import code_cell
from jaxgrader.grading.plan import plan_of
from jaxgrader.grading.runner import NotebookJob
from jaxgrader.results import Outcome, TestResult
from tests.conftest import nbgrader_cell, notebook_of
from tests.slots import Slot, job_of, open_slot


@pytest.fixture(scope="module")
def slot() -> Iterator[Slot]:
    """A slot whose checker serves all tests of this module, one after the other."""
    with open_slot() as made:
        yield made


RIGHT = "def f(x): return 3 * x"


def told(results: list[TestResult]) -> list[tuple[str, float | None]]:
    return [(str(result.outcome), result.score) for result in results]


def test_memory_is_what_the_students_kernel_held(slot: Slot) -> None:
    """Also where the kernel had ended before its last cell."""
    (small,) = slot.grade(RIGHT, "assert f(2) == 6")
    held = "kept = bytearray(b'x') * 400_000_000\n"
    (large,) = slot.grade(held + RIGHT, "assert f(2) == 6")
    (dead,) = slot.grade(f"{held}import os\nos._exit(1)", "assert f(2) == 6")
    assert small.score == large.score == 2
    assert 10_000_000 < small.memory < 300_000_000
    assert small.memory + 350_000_000 < large.memory < 900_000_000
    assert dead.outcome is Outcome.CRASHED
    assert dead.memory > 0


def test_cpu_is_what_the_students_kernel_took(slot: Slot) -> None:
    """With all its children, and also where it ended early."""
    (idle,) = slot.grade(RIGHT, "assert f(2) == 6")
    burn = "import os, time\nwhile time.process_time() < 2: pass\n"
    (busy,) = slot.grade(burn + RIGHT, "assert f(2) == 6")
    child = (
        f"import os\nif os.fork() == 0:\n  exec({burn!r})\n  os._exit(0)\nos.wait()\n"
    )
    (parent,) = slot.grade(child + RIGHT, "assert f(2) == 6")
    (dead,) = slot.grade(f"{burn}os._exit(1)", "assert f(2) == 6")
    assert 0 < idle.cpu < 2 <= min(busy.cpu, parent.cpu, dead.cpu)


def test_a_connection_that_cannot_be_made_is_said_at_once(slot: Slot) -> None:
    """An inspector for which there is no jail, say: the checker must not wait."""

    async def bring(what: str) -> None:
        raise SandboxError(f"no {what}")

    async def ask() -> None:
        checker = await slot.grader.ready(job_of(RIGHT, "1"))
        cell = code_cell(
            "from jaxgrader.grading.client import session\nsession().need('inspector')"
        )
        running = asyncio.ensure_future(checker.run(cell, bring, None))
        assert (await asyncio.wait({running}, timeout=30))[0]
        await running

    with pytest.raises(SandboxError, match="no inspector"):
        slot.runner.run(ask())
    assert slot.grade(RIGHT, "assert f(2) == 6")[0].score == 2


@pytest.mark.parametrize("level", ["basic", "none"])
def test_programs_are_inspected_at_every_level(level: str) -> None:
    with open_slot(level=level) as slot:
        (result,) = slot.grade(RIGHT, TRACED)
    assert (result.outcome, result.sentence) == (Outcome.PASSED, "")


TRACED = """\
import jax.numpy as jnp
from jaxgrader.testing import trace
program = trace(f, jnp.ones(3))
assert program(jnp.full(3, 2.0)).tolist() == [6.0, 6.0, 6.0]
"""


def test_points_come_from_the_checker(slot: Slot) -> None:
    results = slot.grade(
        RIGHT,
        "assert f(2) == 6",
        "assert f(2) == 7",
        "np.float32(0.5) if f(2) == 6 else 0",
        "f(2) == 6",
        "f(2) == 7",
        "y = f(np.arange(3.0))",
        "assert y.sum() == 9 and type(y) is np.ndarray",
    )
    assert told(results) == [
        ("passed", 2),
        ("failed", 0),
        ("failed", 0.5),
        ("passed", 2),
        ("failed", 0),
        ("passed", 2),
        ("passed", 2),
    ]
    assert all(result.protected for result in results)


def test_jax_arrays_arrive_as_such(slot: Slot) -> None:
    answer = "import jax.numpy as jnp\ndef f(x): return jnp.asarray(x, jnp.bfloat16)"
    test = "import jax\ny = f(1.5)\nassert isinstance(y, jax.Array) and y == 1.5"
    assert told(slot.grade(answer, f"{test}\nassert y.dtype == 'bfloat16'")) == [
        ("passed", 2)
    ]


def test_values_and_classes_of_a_solution(slot: Slot) -> None:
    source = "import math as m\nrate = 1\nhole = 2\nclass Model: pass"
    results = slot.grade(
        "rate = 3.0\nhole = {1, 2}\nclass Model: pass",
        "assert rate == 3.0 and m.pi > 3",
        "assert hole == 2",
        "Model()",
        source=source,
    )
    assert told(results) == [("passed", 2), ("error", 0), ("error", 0)]
    assert "a set cannot cross; return sorted(...) of it" in results[1].sentence
    assert "a Model cannot cross" in results[2].sentence


def test_what_the_student_raises(slot: Slot) -> None:
    answer = (
        "def f(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x"
    )
    caught = """
try:
    f(-1)
except ValueError as error:
    assert "negative" in str(error)
else:
    raise AssertionError
"""
    results = slot.grade(answer, caught, "f(-1)")
    assert told(results) == [("passed", 2), ("error", 0)]
    assert "ValueError: negative" in results[1].sentence
    assert "line 3, in f: raise ValueError('negative')" in results[1].sentence
    assert "jaxgrader" not in results[1].sentence


def test_loops_do_not_end_early(slot: Slot) -> None:
    answer = "def f(x): raise StopIteration"
    loop = "for y in map(f, range(3)):\n    assert y == 3"
    assert told(slot.grade(answer, loop)) == [("error", 0)]


@pytest.mark.parametrize(
    ("answer", "test", "outcome", "sentence"),
    [
        ("", "f(1)", "error", "name 'f' is not defined: the notebook does not"),
        (RIGHT, "f(1, 2)", "error", "takes 1 positional argument but 2 were given"),
        ("def f(x): return open", "f(1)", "error", "cannot cross; return arrays"),
        (RIGHT, "f(lambda: 1)", "failed", "the argument cannot cross"),
        ("def f(x): return [1]", "f(1)", "failed", "list, is no score"),
        ("def f(x): return float('nan')", "f(1)", "failed", "nan, is no score"),
        ("def f(x): return 10**999", "f(1)", "failed", "inf, is no score"),
        ("def f(x): return None", "f(1) and f(1) == 3", "failed", "None, is no"),
        (
            "def f(x): return None",
            "y = f(1)\ny.shape",
            "failed",
            "no attribute 'shape'",
        ),
        (
            "import os\ndef f(x): os._exit(3)",
            "f(1)",
            "crashed",
            "ended itself with exit status 3",
        ),
        (
            "def f(x): return bytearray(4 << 30)",
            "f(1)",
            "error",
            "MemoryError",
        ),
    ],
)
def test_failures_are_stated(
    slot: Slot, answer: str, test: str, outcome: str, sentence: str
) -> None:
    (result,) = slot.grade(answer, test)
    assert (str(result.outcome), result.score) == (outcome, 0)
    assert sentence in result.sentence


def test_too_late(slot: Slot) -> None:
    answer = "import time\ndef f(x): time.sleep(99)"
    results = slot.grade(answer, "f(1)", "assert 1 + 1 == 2", cell=1)
    assert told(results) == [("timeout", 0), ("passed", 2)]
    assert "f took longer than a test may wait" in results[0].sentence


def test_a_value_that_a_test_cannot_stand(slot: Slot) -> None:
    """A later test fails of what an earlier one was given: nobody must look at it."""
    results = slot.grade("def f(x): return None", "y = f(1)", "assert y.shape == ()")
    assert told(results) == [("passed", 2), ("failed", 0)]


def test_a_test_that_an_earlier_one_did_not_define(slot: Slot) -> None:
    results = slot.grade("def f(x): 1 / 0", "y = f(1)", "assert y == 3")
    assert told(results) == [("error", 0), ("failed", 0)]
    assert "needs 'y' from an earlier test" in results[1].sentence


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        ("assert undefined == 3", "NameError: name 'undefined' is not defined"),
        ("raise RuntimeError('mine')", "RuntimeError: mine"),
        ("7.0", "is no score between 0 and 2"),
        ("float('nan')", "is no score"),
        ("10 ** 400", "is no score"),
        ("[]", "list, is no score"),
    ],
)
def test_the_authors_fault_waits_for_a_human(
    slot: Slot, test: str, sentence: str
) -> None:
    (result,) = slot.grade(RIGHT, test)
    assert (result.outcome, result.score) == (Outcome.INTERNAL, None)
    assert sentence in result.sentence


def test_a_test_without_calls(slot: Slot) -> None:
    assert told(slot.grade("1 / 0", "assert 1 + 1 == 2")) == [("passed", 2)]


@pytest.mark.parametrize("magic", ["%%capture", "%%capture shown\n%%time"])
def test_a_cell_within_a_test_gives_no_verdict(slot: Slot, magic: str) -> None:
    """IPython runs what such a magic holds as a cell of its own."""
    first = f"{magic}\nassert f(2) == 6"
    tests = (first, "assert f(2) == 7", f"{magic}\nassert f(2) == 7", "f(2) == 6")
    assert told(slot.grade(RIGHT, *tests)) == [
        ("passed", 2),
        ("failed", 0),
        ("failed", 0),
        ("passed", 2),
    ]


def test_a_set_up_cell_that_fails(slot: Slot) -> None:
    test = nbgrader_cell("test", "t", "assert f(1) == 3", 2)
    answer = nbgrader_cell("solution", "answer", RIGHT)
    broken = nbgrader_cell("locked", "broken", "raise OSError('no data')")
    nb = notebook_of(broken, answer, test)
    (result,) = slot.run(NotebookJob(notebook=nb, plan=plan_of(nb), cell=20))[1]
    assert (result.outcome, result.score) == (Outcome.INTERNAL, None)
    assert "A set-up cell of the assignment failed" in result.sentence


def test_a_plain_cell_that_fails_of_what_the_student_gave(slot: Slot) -> None:
    helper = new_code_cell("size = f(1).shape")
    answer = nbgrader_cell("solution", "answer", "def f(x): return None")
    tests = [
        nbgrader_cell("test", "t0", "assert size == ()", 2),
        nbgrader_cell("test", "t1", "assert f(1) is None", 2),
    ]
    nb = notebook_of(answer, helper, *tests)
    results = list(slot.run(NotebookJob(notebook=nb, plan=plan_of(nb), cell=20))[1])
    assert told(results) == [("failed", 0), ("passed", 2)]


def test_in_kernel_is_the_authors_to_say(slot: Slot) -> None:
    job = job_of(RIGHT, "assert isinstance(f, type(lambda: 0))", "f.__closure__")
    assert job.plan is not None
    inside = replace(job, plan=replace(job.plan, in_kernel=frozenset({"t0"})))
    for cell in inside.notebook.cells:
        cell.metadata["tags"] = ["in-kernel"]
    results = slot.run(inside)[1]
    assert [r.protected for r in results] == [False, True]
    assert results[0].outcome is Outcome.PASSED
    assert results[1].outcome is not Outcome.PASSED


def test_namespaces_are_fresh(slot: Slot) -> None:
    assert told(slot.grade(RIGHT, "left = f(1)\nnp.left = 1")) == [("passed", 2)]
    (result,) = slot.grade(RIGHT, "assert left == 3")
    assert result.outcome is Outcome.INTERNAL, "a NameError of the test's own"


def test_a_checker_that_was_lost_between_submissions_is_replaced(slot: Slot) -> None:
    assert slot.grade("def f(x): return x", "assert f(1) == 1")[0].score == 2
    manager: Any = slot.grader.checkers[None].cells.km
    slot.runner.run(manager.provisioner.kill())
    (result,) = slot.grade("def f(x): return x", "assert f(1) == 1")
    assert result.score == 2, result.sentence


def test_the_checker_is_kept_and_recycled(
    slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot.grade(RIGHT, "assert f(1) == 3")
    first = slot.grader.checkers[None]
    slot.grade(RIGHT, "assert f(1) == 3")
    assert slot.grader.checkers[None] is first
    monkeypatch.setattr(checker, "USES", 1)
    slot.grade(RIGHT, "assert f(1) == 3")
    assert slot.grader.checkers[None] is not first


def test_a_checker_that_dies_is_ours(slot: Slot) -> None:
    (one, two) = slot.grade(RIGHT, "import os; os._exit(1)", "assert f(1) == 3")
    assert (one.outcome, one.score) == (Outcome.INTERNAL, None)
    assert (two.outcome, two.score) == (Outcome.INTERNAL, None)
    assert told(slot.grade(RIGHT, "assert f(1) == 3")) == [("passed", 2)]


def test_a_test_that_gets_lost_in_an_answer(
    slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "OWN_TIME", 2.0)
    answer = "def f(x): return 10**18"
    loop = "for _ in range(f(1)): pass"
    results = slot.grade(answer, loop, "assert f(1) == 3", cell=1)
    assert told(results) == [("timeout", 0), ("timeout", 0)]
    monkeypatch.undo()
    assert told(slot.grade(RIGHT, "assert f(1) == 3")) == [("passed", 2)]


def test_the_checker_reaches_nothing(slot: Slot) -> None:
    here = Path(__file__)
    test = f"""
import os, socket
assert not os.path.exists({str(here)!r})
try:
    socket.create_connection(("127.0.0.1", 80), 1)
except OSError as error:
    assert not isinstance(error, ConnectionRefusedError)
"""
    (result,) = slot.grade(RIGHT, test)
    assert result.outcome is Outcome.PASSED, result.sentence


def test_the_checkers_socket_is_out_of_reach(slot: Slot) -> None:
    answer = """
import os
def f(x):
    places = [os.path.join(d, n) for d, _, names in os.walk("/run") for n in names]
    return sorted(p for p in places if "control" in p or p.startswith("/run/jaxgrader"))
"""
    assert told(slot.grade(answer, "assert f(1) == []")) == [("passed", 2)]


def test_two_notebooks_of_one_submission(slot: Slot, tmp_path: Path) -> None:
    """Each has its own kernel and an empty namespace, the checker is the same."""
    (tmp_path / "data.txt").write_text("42")
    for answer in ("seen = 1\n" + RIGHT, RIGHT + "\nassert 'seen' not in globals()"):
        test = "assert f(1) == 3\nassert open('data.txt').read() == '42'"
        job = replace(job_of(answer, test), source=tmp_path, files=tmp_path)
        assert told(list(slot.run(job)[1])) == [("passed", 2)]
