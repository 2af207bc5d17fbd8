"""The feedback page in Chromium: by everybody, in any width, with nothing but itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_markdown_cell
from nbgrader.api import Gradebook
from playwright.sync_api import Browser, Page, expect

from tests import zoo
from tests.browser.conftest import ARTIFACTS, VIEWS, opened
from tests.conftest import Course, nbgrader_cell, notebook_of

pytestmark = pytest.mark.browser
Shoot = Callable[[Page, str], None]

LESSON = r"""# Waves

A wave is $y_t = \sin(\omega t)$, for $t < n$:

$$h_{\text{new}} = (1 - z) \odot n + z \odot h, \qquad
  z = \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}$$

| input | meaning |
|---|---|
| `n` | how many numbers |
"""
ANSWER = """\
def wave(n):
    # mine is a little late
    return np.sin(np.arange(n) / 4 - (0.4 if n > 8 else 0))

def slow():
    while True: pass

wave(3)"""
TESTS = {
    "test_short": "# The first three numbers.\n"
    "np.testing.assert_allclose(wave(3), np.sin(np.arange(3) / 4), atol=1e-6)",
    "test_few": "# Three numbers, twice as large.\n### BEGIN HIDDEN TESTS\n"
    "# Hint: double *after* the sine, $2 \\sin(x)$ is not $\\sin(2 x)$.\n"
    "### END HIDDEN TESTS\n"
    "np.testing.assert_allclose(\n    wave(3), 2 * np.sin(np.arange(3) / 4), atol=1e-6,\n"
    "    err_msg='the wave is twice as high as the sine',\n)",
    "test_long": "# Sixty numbers: a wave and a half.\n"
    "# Hint: where does your wave start?\n"
    "from jaxgrader.testing import assert_allclose\n"
    "assert_allclose({'wave': wave(60)}, {'wave': np.sin(np.arange(60) / 4)})",
    "test_shape": "# A table of two columns.\n"
    "np.testing.assert_allclose(wave(6), np.zeros((3, 2)))",
    "test_raises": "# A number that is no number.\nwave('three')",
    "test_slow": "# What takes its time.\nslow()",
    "test_hidden": "# Other lengths.\n### BEGIN HIDDEN TESTS\n"
    "np.testing.assert_allclose(wave(4711), 42)\n### END HIDDEN TESTS",
}
WRITTEN = nbgrader_cell("solution", "why", "Because of the phase, $\\varphi$.", 3)
WRITTEN.update(cell_type="markdown")
WRITTEN.metadata.nbgrader.grade = True
for _key in ("outputs", "execution_count"):
    WRITTEN.pop(_key)
WAVES = notebook_of(
    new_markdown_cell(LESSON),
    nbgrader_cell("locked", "imports", "import numpy as np"),
    nbgrader_cell("solution", "wave", "def wave(n):\n    ..."),
    *(nbgrader_cell("test", name, text, 2) for name, text in TESTS.items()),
    WRITTEN,
)
#: Who means harm, by everything that they may choose.
MALLORY = f"mallory<img src=x onerror={zoo.RUN}>".replace("/", "")


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    course.write_source("waves", "waves", WAVES)
    course.nbgrader("generate_assignment waves")
    for student in ("ada", MALLORY):
        folder = course.hand_out("waves", student)
        nb = json.loads((folder / "waves.ipynb").read_text())
        nb["cells"][2]["source"] = ANSWER
        if student == MALLORY:
            nb["cells"][2]["source"] = HARM
            zoo.infest(nb)
        (folder / "waves.ipynb").write_text(json.dumps(nb))
    (graded,) = course.nbgrader("autograde waves --Execute.timeout=3 --Limits.cell=3")
    assert graded.status == 0, graded.log
    with Gradebook(f"sqlite:///{course.root}/gradebook.db") as gradebook:
        notebook = gradebook.find_submission_notebook("waves", "waves", "ada")
        notebook.late_submission_penalty = 1.5
        comment = gradebook.find_comment("wave", "waves", "waves", "ada")
        comment.manual_comment = "Look at `np.arange`: it starts at $0$."
        gradebook.db.commit()
    (made,) = course.nbgrader("generate_feedback waves")
    assert made.status == 0, made.log
    return course


#: Names, messages and values that a page might take for its own.
HARM = f"""\
class Evil(Exception): pass
Evil.__name__ = {zoo.HTML[2]!r}
def wave(n):
    if n == 3:
        return np.full(3, 7.0)
    raise Evil({"".join(zoo.HTML)!r})
def slow():
    raise Evil("\\ue0000\\ue000 $\\\\href{{javascript:{zoo.RUN}}}{{x}}$")"""


def page_of(course: Course, student: str) -> Path:
    return course.root / "feedback" / student / "waves" / "waves.html"


@pytest.fixture(params=VIEWS, ids=lambda each: f"{each[0]}-{each[1]}")
def page(
    browser: Browser, course: Course, request: pytest.FixtureRequest
) -> Iterator[Page]:
    with opened(browser, page_of(course, "ada"), request.param) as page:
        yield page


def test_everybody_can_use_it(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_it_is_as_wide_as_the_window(page: Page, shoot: Shoot) -> None:
    width = page.evaluate("window.innerWidth")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    name = f"11-feedback-{width}-{'dark' if dark else 'light'}"
    shoot(page, name)
    page.screenshot(path=ARTIFACTS / f"{name}-whole.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 24, 27)") is dark


def test_what_counts_comes_first(page: Page) -> None:
    expect(page.locator(".total")).to_have_text("0.5 of 17 points")
    expect(page.locator(".late")).to_contain_text("1.5 points were taken off")
    expect(page.locator(".note")).to_contain_text("1 of the scores below waits")
