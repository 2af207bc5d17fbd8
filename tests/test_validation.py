"""What Validate says to a student whose notebook fails its visible tests."""

import re
from collections.abc import Callable

import nbformat
import pytest

from tests.conftest import Course, nbgrader_cell, notebook_of

SOURCE = notebook_of(
    nbgrader_cell("locked", "imports", "import jax.numpy as jnp"),
    nbgrader_cell(
        "solution",
        "halve",
        "def halve(x):\n    ### BEGIN SOLUTION\n    return x / 2\n    ### END SOLUTION",
    ),
    nbgrader_cell(
        "test",
        "test_value",
        "# Half of four.\n# Hint: divide by two.\ny = halve(4)\nassert y == 2, (\n"
        "    f'half of 4 is 2, not {y}'\n)",
        1,
    ),
    nbgrader_cell("test", "test_bare", "\n\n_y = halve(8)\nassert _y == 4", 1),
    nbgrader_cell("test", "test_raises", "halve(None)", 1),
    nbgrader_cell("test", "test_name", "unknown(1)", 1),
    nbgrader_cell(
        "test",
        "test_array",
        "from jaxgrader.testing import assert_allclose\n"
        "assert_allclose(halve(jnp.ones(3)), jnp.full(3, 0.5))",
        1,
    ),
    nbgrader_cell("test", "test_passes", "assert halve(0) == 0", 1),
)
ANSWER = """\
def halve(x):
    if x is None:
        print('one \\x1b[31m line')
        raise ValueError('a [bracket] and <b>mark-up</b>')
    return x / 4
"""


@pytest.fixture(scope="module")
def said(new_course: Callable[[], Course]) -> dict[str, str]:
    """What `nbgrader validate` prints of each failed test."""
    course = new_course()
    course.write_source("ps", "p", SOURCE)
    course.nbgrader("generate_assignment ps")
    notebook = course.hand_out("ps", "ada") / "p.ipynb"
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[1].source = ANSWER
    nbformat.write(nb, notebook)
    (done,) = course.nbgrader(f"validate {notebook}")
    parts = re.split(r"={20,}\n", done.log)[1:]
    names = ["test_value", "test_bare", "test_raises", "test_name", "test_array"]
    assert len(parts) == len(names), done.log
    errors = (part.partition("The error was:")[2] for part in parts)
    return dict(zip(names, errors, strict=True))


def test_the_tests_own_words_come_first(said: dict[str, str]) -> None:
    text = said["test_value"]
    assert text.split("\n")[2].strip() == "half of 4 is 2, not 1.0"
    assert "The test is about: Half of four." in text
    assert "Line 4 of the test:" in text
    assert "assert y == 2, (" in text
    assert "Hint: divide by two." in text
    assert "Traceback" not in text


def test_an_assert_without_a_message_is_quoted(said: dict[str, str]) -> None:
    text = said["test_bare"]
    assert text.split("\n")[2].strip() == "What this test claims does not hold."
    assert "assert _y == 4" in text
    assert "Your code was" not in text


def test_what_the_students_code_raised_is_found_there(said: dict[str, str]) -> None:
    text = said["test_raises"]
    assert "Your code raised ValueError: a [bracket] and <b>mark-up</b>" in text
    assert "Your code was at line 4 of its cell:" in text
    assert "halve(None)" in text


def test_a_name_that_nobody_defined(said: dict[str, str]) -> None:
    assert "'unknown' is not defined." in said["test_name"]


def test_a_tables_lines_stay_as_they_are(said: dict[str, str]) -> None:
    text = said["test_array"]
    assert "0.25" in text
    assert "0.5" in text
    assert "jaxgrader/testing.py" not in text
    assert all(len(line) <= 76 for line in text.split("\n"))
