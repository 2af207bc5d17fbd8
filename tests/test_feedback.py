"""What students read of their tests, and that nothing else is in it."""

import json
import re
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell

from jaxgrader.feedback import Region, description, fails_before, kind_of
from jaxgrader.pages import clean
from tests import zoo
from tests.conftest import Course, nbgrader_cell, notebook_of

VISIBLE = """\
# A small number.
got = triple(2)
assert got == 6, f"triple(2) must be 6, but it is {got}"
"""
MIXED = """\
# One, and numbers below zero.
assert triple(1) == 3, f"triple(1) must be 3, but it is {triple(1)}"
### BEGIN HIDDEN TESTS
# Numbers below zero.
secret_input = -7193
secret_output = triple(secret_input)
assert secret_output == -21579, f"expected -21579 for {secret_input}"
### END HIDDEN TESTS"""
HIDDEN = """\
# Larger numbers.
### BEGIN HIDDEN TESTS
for large in (4816, 5927):
    print("staff only", large)
    assert triple(large) == 3 * large, large
### END HIDDEN TESTS"""
LATE = """\
got = triple(5)
assert got == 15, f"triple(5) must be 15, but it is {got}"
"""
TRIPLE = notebook_of(
    nbgrader_cell("solution", "triple", "def triple(x):\n    return 3 * x"),
    nbgrader_cell("test", "test_visible", VISIBLE, 1),
    nbgrader_cell("test", "test_mixed", MIXED, 2),
    nbgrader_cell("test", "test_hidden", HIDDEN, 4),
    nbgrader_cell("test", "test_late", LATE, 8),
)

#: Nothing of this may be in anybody's feedback.
SECRETS = re.compile(
    r"7193|21579|4816|5927|14448|17781|secret_|large in|staff only|3 \* large"
)

#: student -> (their answer, points, what a cell shows: by grade_id).
RIGHT = "def triple(x):\n    return 3 * x"
STUDENTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "right": (
        RIGHT,
        "15",
        {
            "test_mixed": "This hidden test passed.",
            "test_hidden": "This hidden test passed.\nIt is about: Larger numbers.\n",
        },
    ),
    "wrong": (
        "def triple(x):\n    return x",
        "0",
        {
            "test_visible": "triple(2) must be 6, but it is 2",
            "test_mixed": "triple(1) must be 3, but it is 1",
            "test_hidden": "This hidden test failed.",
            "test_late": "Line 2 of the test:",
        },
    ),
    "positive": (
        "def triple(x):\n    return 3 * abs(x)",
        "13",
        {"test_mixed": "This hidden test failed.\nIt is about: Numbers below zero."},
    ),
    "raises": (
        "def triple(x):\n    if abs(x) > 9: raise KeyError(f'no {x} {3 * x}')\n"
        "    return 3 * x",
        "9",
        {"test_hidden": "This hidden test failed: your code raised KeyError."},
    ),
    "breaks": (
        "def triple(x):\n    number = x\n    return number / 0",
        "0",
        {"test_visible": "ZeroDivisionError: division by zero\nin your code:"},
    ),
    "names": (
        "def triple(x):\n    raise type(f'E{abs(x)}', (Exception,), {})(x)",
        "0",
        {
            "test_visible": "E2: 2",
            "test_hidden": "your code raised an error, or returned what a test",
        },
    ),
    "prints": (
        "def triple(x):\n    print('called with', x)\n    return 3 * x",
        "15",
        {"test_visible": "called with 2", "test_hidden": "This hidden test passed."},
    ),
    "endless": (
        "def triple(x):\n    while x < 0: pass\n    return 3 * x",
        "13",
        {"test_mixed": "took longer than it may. Is there an endless loop?"},
    ),
    "missing": (
        "def tripel(x):\n    return 3 * x",
        "0",
        {
            "test_visible": "NameError: name 'triple' is not defined",
            "test_hidden": "your code raised NameError.",
        },
    ),
    "dies": (
        "import os\ndef triple(x):\n    if x < 0: os._exit(93)\n    return 3 * x",
        "1",
        {"test_mixed": "died or stopped answering", "test_late": "stopped answering"},
    ),
    "keeps": (
        """\
from IPython.display import display
handle = display("nothing yet", display_id=True)
kept = []
def triple(x):
    kept.append(x)
    handle.update(f"kept {kept}")
    if x == 5:
        raise ValueError(kept)
    return 3 * x""",
        "7",
        {"test_late": "This test failed: your code raised ValueError."},
    ),
    "mallory": (RIGHT, "15", {"test_hidden": "This hidden test passed."}),
}


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    course.write_source("ps", "p", TRIPLE)
    course.nbgrader("generate_assignment ps")
    for student, (answer, _, _) in STUDENTS.items():
        folder = course.hand_out("ps", student)
        nb = json.loads((folder / "p.ipynb").read_text())
        nb["cells"][0]["source"] = answer
        if student == "keeps":
            nb["cells"].append(new_code_cell("print(kept)\nkept"))
        if student == "mallory":
            zoo.infest(nb)
            (folder / "evil.html").write_text(zoo.PAGE)
        (folder / "p.ipynb").write_text(json.dumps(nb))
    autograded, feedback = course.nbgrader(
        "autograde ps --Execute.timeout=3", "generate_feedback ps"
    )
    assert (autograded.status, feedback.status) == (0, 0), autograded.log + feedback.log
    return course


def page(course: Course, student: str) -> str:
    return (course.root / "feedback" / student / "ps" / "p.html").read_text()


def shown(text: str) -> dict[str, str]:
    """Return grade_id -> what a page shows of a test: its text, then its outputs."""
    soup = BeautifulSoup(text, features="html.parser")
    cells = soup.select(".code-cell[data-cell^=test_]")
    return {str(cell["data-cell"]): cell.get_text() for cell in cells}


def total(text: str) -> str:
    """Return the points that stand at the top of a page."""
    found = BeautifulSoup(text, features="html.parser").select_one(".total")
    assert found is not None
    return found.get_text()


@pytest.mark.parametrize("student", STUDENTS)
def test_nothing_hidden_is_in_the_page(course: Course, student: str) -> None:
    text = page(course, student)
    assert SECRETS.search(text) is None, SECRETS.search(text)
    assert "A hidden test stands here: Numbers below zero." in text


@pytest.mark.parametrize("student", STUDENTS)
def test_points_and_verdicts(course: Course, student: str) -> None:
    text = page(course, student)
    _, points, wanted = STUDENTS[student]
    assert total(text) == f"{points} of 15 points"
    cells = shown(text)
    assert cells.keys() == {"test_visible", "test_mixed", "test_hidden", "test_late"}
    for name, sentence in wanted.items():
        assert sentence in cells[name]


def test_a_visible_test_shows_its_line_and_no_walls(course: Course) -> None:
    cells = shown(page(course, "wrong"))
    assert "Line 3 of the test:" in cells["test_visible"]
    assert 'assert got == 6, f"triple(2) must be' in cells["test_visible"]
    assert "site-packages" not in "".join(cells.values())
    assert "Traceback" not in "".join(cells.values())
    broken = shown(page(course, "breaks"))
    assert "line 3, in triple: return number / 0" in broken["test_visible"]


def test_after_a_hidden_test_nothing_of_the_students_is_shown(course: Course) -> None:
    text = page(course, "keeps")
    assert "[Not shown: this cell ran after a hidden test.]" in text
    assert "but it is 5" not in page(course, "wrong")
    assert "not shown, since a hidden test ran before it" in shown(text)["test_late"]


def test_metadata_that_was_lost_hides(course: Course) -> None:
    path = course.root / "autograded" / "positive" / "ps" / "p.ipynb"
    before = path.read_text()
    try:
        for keys in ({"nbgrader"}, set()):
            nb: Any = nbformat.reads(before, as_version=4)
            for cell in nb.cells:
                cell.metadata = {k: v for k, v in cell.metadata.items() if k in keys}
            # Somebody took the markers out, too.
            nb.cells[2].source = re.sub("### .*\n?", "", nb.cells[2].source)
            nbformat.write(nb, path)
            (done,) = course.nbgrader("generate_feedback ps --student=positive --force")
            assert done.status == 0, done.log
            text = page(course, "positive")
            assert SECRETS.search(text) is None
            assert total(text) == "13 of 15 points"
    finally:
        path.write_text(before)
        course.nbgrader("generate_feedback ps --student=positive --force")


def test_without_our_step_there_is_no_feedback(course: Course) -> None:
    config = course.root / "nbgrader_config.py"
    text = config.read_text()
    try:
        config.write_text(text.replace("jaxgrader.feedback.HideTests", "builtins.len"))
        (done,) = course.nbgrader("generate_feedback ps --force --student=right")
    finally:
        config.write_text(text)
    assert done.status != 0
    assert "No feedback is made" in done.log
    assert (course.root / "feedback" / "right" / "ps" / "p.html").exists()


def test_nothing_in_the_page_can_run(course: Course) -> None:
    soup = BeautifulSoup(page(course, "mallory"), features="html.parser")
    assert not soup(["script", "iframe", "object", "embed", "form", "input", "base"])
    assert [svg["class"] for svg in soup("svg")] == [["share"]]
    assert not soup.select(
        "[style], [id]:not([id^=cell-], #scores, #notebook, #as-graded)"
    )
    for element in soup(True):
        assert not [name for name in element.attrs if name.startswith("on")]
        for name in ("href", "src"):
            assert not re.match(r"\W*(java)?script\W", str(element.get(name, "")))
    assert [meta.get("http-equiv", meta.get("name")) for meta in soup("meta")] == [
        *(None, "Content-Security-Policy", "viewport", "referrer", "color-scheme"),
    ]
    assert not list((course.root / "feedback").rglob("evil.html"))
    # Names and words of the notebook are in the page as words.
    assert "window.pwned" in soup.get_text()


HINTED = """\
# Two, three and four.
### BEGIN HIDDEN TESTS
# Hint: three times, *also*
#   for larger numbers.
# Hint: what is $3 x$?
### END HIDDEN TESTS
np.testing.assert_array_equal(triple(np.arange(2, 5)), [6, 9, 12], err_msg="thrice")"""
PARTLY = """\
# One, and numbers below zero.
np.testing.assert_array_equal(triple(np.arange(2)), [0, 3])
### BEGIN HIDDEN TESTS
# Hint: mind the sign.
_secret = -7193 - np.arange(20)
np.testing.assert_array_equal(triple(_secret), 3 * _secret, err_msg="staff only")
### END HIDDEN TESTS"""
AFTER = """\
# Hint: this one is at the top.

# Below zero.
np.testing.assert_array_equal(triple(-np.arange(3)), [0, -3, -6])"""
#: Nothing of this either: 3 * 7193 and so on.
HIDDEN_VALUES = re.compile(r"7193|72[01]\d|21579|2158\d|216\d\d|staff only|_secret")


@pytest.fixture(scope="module")
def hinted(course: Course) -> Course:
    course.write_source(
        "hints",
        "p",
        notebook_of(
            nbgrader_cell("locked", "imports", "import numpy as np"),
            nbgrader_cell("solution", "triple", RIGHT),
            nbgrader_cell("test", "test_hinted", HINTED, 1),
            nbgrader_cell("test", "test_partly", PARTLY, 1),
            nbgrader_cell("test", "test_after", AFTER, 1),
        ),
    )
    course.nbgrader("generate_assignment hints")
    for student in ("right", "wrong", "positive"):
        folder = course.hand_out("hints", student)
        nb = json.loads((folder / "p.ipynb").read_text())
        nb["cells"][1]["source"] = STUDENTS[student][0]
        (folder / "p.ipynb").write_text(json.dumps(nb))
    done = course.nbgrader("autograde hints", "generate_feedback hints")
    assert [one.status for one in done] == [0, 0], done[0].log + done[1].log
    return course


def hints_page(course: Course, student: str) -> str:
    return (course.root / "feedback" / student / "hints" / "p.html").read_text()


def items(course: Course, student: str) -> dict[str, Any]:
    """Return grade_id -> what the summary of a page says of it."""
    soup = BeautifulSoup(hints_page(course, student), features="html.parser")
    return {str(item["data-cell"]): item for item in soup.select(".item")}


def hints_of(item: Any) -> list[str]:
    return [" ".join(hint.get_text().split()) for hint in item.select(".hint")]


def test_hints_are_for_those_who_failed(hinted: Course) -> None:
    found = {
        student: {name: hints_of(item) for name, item in items(hinted, student).items()}
        for student in ("right", "wrong", "positive")
    }
    hinted_at = ["Hint: three times, also for larger numbers.", "Hint: what is 3x?"]
    at_top, sign = ["Hint: this one is at the top."], ["Hint: mind the sign."]
    assert found == {
        "right": {"test_hinted": [], "test_partly": [], "test_after": []},
        "wrong": {"test_hinted": hinted_at, "test_partly": sign, "test_after": at_top},
        "positive": {"test_hinted": [], "test_partly": sign, "test_after": at_top},
    }
    # Nor does the cell itself tell it before.
    assert "larger numbers" not in hints_page(hinted, "right")
    release = (hinted.root / "release" / "hints" / "p.ipynb").read_text()
    assert "larger numbers" not in release


def test_a_region_of_hints_hides_no_test(hinted: Course) -> None:
    first = items(hinted, "wrong")["test_hinted"]
    assert first.h3.get_text() == "Two, three and four."
    assert first.select_one(".sentence").get_text() == "thrice"
    rows = [[cell.get_text() for cell in row("td")] for row in first("tr")[1:]]
    assert rows == [["2 differs", "6"], ["3 differs", "9"], ["4 differs", "12"]]
    assert "A hidden test" not in shown(hints_page(hinted, "wrong"))["test_hinted"]


def test_what_hidden_tests_compare_is_not_told(hinted: Course) -> None:
    kept = hinted.root / "autograded" / "positive" / "hints" / "p.ipynb"
    assert HIDDEN_VALUES.search(kept.read_text())  # there is something to tell
    text = hints_page(hinted, "positive")
    assert HIDDEN_VALUES.search(text) is None, HIDDEN_VALUES.search(text)
    found = items(hinted, "positive")
    for name in ("test_partly", "test_after"):  # the latter ran after a hidden test
        assert not found[name].select(".difference")
    assert "not shown, since a hidden test ran" in found["test_after"].get_text()
    # In front of its hidden part, a test tells what it compared.
    assert items(hinted, "wrong")["test_partly"].select(".difference .differs")


@pytest.mark.parametrize(
    ("inner", "hides"),
    [
        ("# Hint: a", False),
        ("# Hint: a\n# and b\n\n# Hint: c", False),
        ("# Hint: a\nassert f()", True),
        ("# no hint", True),
        ("", True),
        ("x = 1\n# Hint: a", True),
    ],
)
def test_what_counts_as_hidden(inner: str, hides: bool) -> None:
    region = Region("BEGIN", "END")
    assert bool(region.hides(f"f()\n# BEGIN\n{inner}\n# END\ng()")) is hides
    # Without its end a region goes to the end; code on its markers counts, too.
    assert region.hides(f"# BEGIN\n{inner}\ng()")
    assert region.hides(f"f() # BEGIN\n{inner}\n# END")


@pytest.mark.parametrize("payload", [*zoo.HTML, *zoo.MARKDOWN])
def test_clean(payload: str) -> None:
    soup = BeautifulSoup(clean(payload), features="html.parser")
    assert {element.name for element in soup(True)} <= {
        *("a", "b", "code", "details", "div", "img", "p", "pre", "summary", "table"),
    }
    for element in soup(True):
        assert not {"id", "class", "data-toggle", "data-link", "onclick"} & {
            *element.attrs
        }


@pytest.mark.parametrize(
    "text",
    [
        '<table border="1" class="dataframe"><tbody><tr style="text-align: right;">'
        "<td>1</td></tr></tbody></table>",
        '<div class="highlight"><pre><span class="kn">import</span></pre></div>',
        '<p>See <a href="https://docs.jax.dev/#x">JAX</a>, <a href="a.csv">a</a></p>',
        '<img alt="x" src="data:image/png;base64,AAAA">',
        "<h2>Two</h2><ul><li>a &lt; b</li></ul>",
    ],
)
def test_clean_keeps_what_lessons_use(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("# Zero, and one.\nassert f(0) == 1", "Zero, and one."),
        ("\n# Two lines\n# of prose.\n\n# not this", "Two lines of prose."),
        ('"""Zero, and one.\n\nMore."""\nf(0)', "Zero, and one."),
        ("'Zero.'\nf(0)", "Zero."),
        ("# assert f(3) == 9\nf(0)", ""),
        ("# Edge cases\n# expected = [1, 2]\n", "Edge cases"),
        ("x = 1\n# no description", ""),
        ("# Hint: try 0.\n# And 1.\nf(0)", ""),
        ("# Hint: try 0.\n\n# Zero.\nf(0)", "Zero."),
        ("", ""),
    ],
)
def test_description(lines: str, said: str) -> None:
    assert description(lines.split("\n")) == said


@pytest.mark.parametrize(
    ("line", "source", "before"),
    [
        (1, "f()\n# BEGIN\ng()\n# END", True),
        (3, "f()\n# BEGIN\ng()\n# END", False),
        (5, "f()\n# BEGIN\ng()\n# END\nh()", False),
        # IPython counts from the first line that is not blank.
        (2, "\n\nf()\n# BEGIN\ng()\n# END", False),
        (1, "\n\nf()\n# BEGIN\ng()\n# END", True),
        # What began before the region, and goes on in it.
        (1, "with f():\n    # BEGIN\n    g()\n    # END", False),
        # A magic runs the whole cell.
        (1, "%%time\n# BEGIN\ng()\n# END", False),
        (None, "f()\n# BEGIN\ng()\n# END", False),
    ],
)
def test_where_a_test_failed(line: int | None, source: str, before: bool) -> None:
    first = Region("BEGIN", "END").first(source)
    assert first is not None
    assert fails_before(first, source, {"line": line}) is before


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("ValueError: 7193", "raised ValueError"),
        ("ValueError\nin your code:", "raised ValueError"),
        ("E7193: 7193", "raised an error, or"),
        ("print: 7193", "raised an error, or"),
        ("7193", "raised an error, or"),
    ],
)
def test_how_an_error_is_named(sentence: str, said: str) -> None:
    assert kind_of(sentence).startswith(said)


def test_regions() -> None:
    region = Region("BEGIN", "END")
    source = "a\n  # BEGIN\n  b\n  # END\nc\n# BEGIN\nd"
    assert region.cut(source, "# -") == "a\n  # -\nc\n# -"
    assert region.lines(source) == ["b", "d"]
    assert region.first("a") is None
