"""No byte of a hidden test, nor of what it expects, enters the student's process.

The student's function scans all memory of its own process at each call, and a thread
does meanwhile; what came in on the wire is kept. Of each needle it knows one half,
and the other with every byte changed, so that it does not find itself.
"""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BARE, Course, nbgrader_cell, notebook_of

INPUT, EXPECTED, SINGLE = 1.2345678901e-7, 9.8765432109e-5, (7.1234567e-3, 8.7654e5)
NEEDLES = {
    # It must find these, or it would find nothing.
    "own": b"a_word_of_the_students_own",
    "released": b"a_word_of_the_release",
    "input": struct.pack("<d", INPUT),
    # And none of these.
    "source": b"a_word_of_the_hidden_test",
    "float64": struct.pack("<d", EXPECTED),
    "float32": struct.pack("<2f", *SINGLE),
    "text": repr(EXPECTED).encode(),
}
CONTROLS = {"own", "released", "input"}

#: What the hidden tests do; the last one gives the scanner another turn.
HIDDEN = f"""
### BEGIN HIDDEN TESTS
a_word_of_the_hidden_test = np.array([{EXPECTED!r}])
single = np.array({SINGLE!r}, np.float32)
out = scale(np.array([{INPUT!r}]))
assert not np.array_equal(out, a_word_of_the_hidden_test), "a_word_of_the_hidden_test"
assert not np.array_equal(out, single), f"expected {{single}}"
### END HIDDEN TESTS
"""
LAST = f"""
### BEGIN HIDDEN TESTS
scale(np.zeros(1))
np.testing.assert_allclose(scale(np.zeros(1)), {EXPECTED!r}, atol=0)
### END HIDDEN TESTS
"""
SCANNER = """
import os, threading
from jaxgrader.grading import wire
WORD = "a_word_of_the_students_own"
NEEDLES = @NEEDLES@
found, received, read = set(), [], wire._read

def record(*args):
    data = read(*args)
    received.append(bytes(data))
    return data

wire._read = record

def is_in(chunk, head, changed):
    at = chunk.find(head)
    while at >= 0:
        rest = chunk[at + len(head) : at + len(head) + len(changed)]
        if bytes(byte ^ 0x5A for byte in rest) == changed:
            return True
        at = chunk.find(head, at + 1)
    return False

def scan():
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            area, rights, *_ = line.split()
            start, end = (int(end, 16) for end in area.split("-"))
            while "r" in rights and start < end:
                try:
                    chunk = os.pread(memory.fileno(), min(1 << 22, end - start), start)
                except (OSError, OverflowError):
                    break
                if not chunk:
                    break
                found.update(k for k in NEEDLES if is_in(chunk, *NEEDLES[k]))
                start += max(len(chunk) - 64, 64)

def keep_scanning():
    while True:
        scan()

threading.Thread(target=keep_scanning, daemon=True).start()

def scale(x):
    scan()
    print("FOUND", *sorted(found))
    return 0 * x
"""


@pytest.fixture(scope="module")
def found(new_course: Callable[[], Course]) -> list[set[str]]:
    """What the scanner knew, call by call."""
    course = new_course()
    released = "import numpy as np\nTITLE = 'a_word_of_the_release'"
    nb = notebook_of(
        nbgrader_cell("locked", "imports", released),
        nbgrader_cell("solution", "answer", "def scale(x):\n    return 3 * x"),
        nbgrader_cell("test", "visible", "assert scale(1.0) == 3.0", 1),
        nbgrader_cell("test", "hidden", HIDDEN, 1),
        nbgrader_cell("test", "last", LAST, 1),
    )
    course.write_source("ps", "p", nb)
    course.nbgrader("generate_assignment ps")
    notebook = course.hand_out("ps", "spy") / "p.ipynb"
    halves = {
        name: (needle[:half], bytes(byte ^ 0x5A for byte in needle[half:]))
        for name, needle in NEEDLES.items()
        if (half := len(needle) // 2)
    }
    submitted = json.loads(notebook.read_text())
    submitted["cells"][1]["source"] = SCANNER.replace("@NEEDLES@", repr(halves))
    notebook.write_text(json.dumps(submitted))
    course.nbgrader("autograde ps")
    text = (course.root / "autograded" / "spy" / "ps" / "p.ipynb").read_text()
    assert course.scores("spy", "ps") == {"visible": 0, "hidden": 1, "last": 0}, text
    return [set(line.split()) for line in re.findall(r"FOUND ([\w ]*)\\n", text)]


def test_the_scanner_finds_what_is_there(found: list[set[str]]) -> None:
    assert len(found) == 4
    assert found[-1] >= CONTROLS


def test_no_byte_of_a_hidden_test_is_there(found: list[set[str]]) -> None:
    assert set().union(*found) <= CONTROLS


def test_no_program_of_a_hidden_test_is_in_the_cache(
    new_course: Callable[[], Course],
) -> None:
    """Students' kernels read the compilation cache, names and constants included."""
    course = new_course()
    nb = notebook_of(
        nbgrader_cell("locked", "imports", "import jax, jax.numpy as jnp"),
        nbgrader_cell(
            "solution", "answer", "@jax.jit\ndef of_the_answer(x): return 3 * x"
        ),
        nbgrader_cell(
            "test",
            "hidden",
            "### BEGIN HIDDEN TESTS\n@jax.jit\n"
            "def of_the_test(x): return x + 31337.25\n"
            "assert of_the_test(of_the_answer(jnp.ones(2))).shape == (2,)\n"
            "### END HIDDEN TESTS",
            1,
        ),
    )
    course.write_source("ps", "p", nb)
    course.nbgrader("generate_assignment ps")
    top = Path(BARE["JAXGRADER_CACHE_DIR"])
    # What tests compile lies apart, and only checkers get it (tests/kernel/test_cache).
    apart = [folder for folder in top.glob("*.tests") if any(folder.rglob("*of_the_*"))]
    assert apart
    names = " ".join(
        path.name
        for path in top.rglob("*")
        if not any(path.is_relative_to(folder) for folder in apart)
    )
    assert "of_the_answer" in names
    assert "of_the_test" not in names
