"""The feedback page in Chromium: for everybody, in any width, and from disk alone."""

import json
import re
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
    "np.testing.assert_allclose(\n"
    "    wave(3), 2 * np.sin(np.arange(3) / 4), atol=1e-6,\n"
    "    err_msg='the wave is twice as high as the sine',\n)",
    "test_long": "# Sixty numbers: a wave and a half.\n"
    "# Hint: where does your wave start?\n"
    "from jaxgrader.testing import assert_allclose\n"
    "assert_allclose({'wave': wave(60)}, {'wave': np.sin(np.arange(60) / 4)})",
    "test_shape": "# A table of two columns.\n"
    "np.testing.assert_allclose(wave(6), np.zeros((3, 2)))",
    "test_raises": "# A number that is no number.\nwave('three')",
    "test_wrong": "# What the author got wrong.\nassert undefined",
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
    nbgrader_cell("solution", "wave", "def wave(n):\n    ...\ndef slow():\n    ..."),
    *(nbgrader_cell("test", name, text, 2) for name, text in TESTS.items()),
    WRITTEN,
)
#: Who means harm, by everything that they may choose.
MALLORY = f"mallory<img src=x onerror={zoo.RUN}>".replace("/", "")
#: Formulas that a library may take for markup, and marks of formulas yet to come.
TEX = rf"""
$\href{{javascript:{zoo.RUN}}}{{x}}$ $\text{{<img src=x onerror={zoo.RUN}>}}$
$\style{{background:url(https://evil.example)}}{{y}}$ $\text{{&lt;script&gt;}}$
<a title="$x$" href="https://a.example/$x$">$x$</a> ![$x$](data:image/png;base64,AAAA)
![beacon](https://evil.example/pixel.png) <img src="//evil.example/pixel.png">

$$\begin{{x}}</span></div></main><script>{zoo.RUN}</script>\end{{x}}$$
"""
MARKS = "\ue0000\ue000 &#xe000;0&#xe000; <a title='\ue0000\ue000'>x</a>"
#: Names, messages and values that a page might take for its own.
HARM = f"""\
class Evil(Exception): pass
Evil.__name__ = {zoo.HTML[2]!r}
def wave(n):
    if n == 3:
        return np.full(3, 7.0)
    raise Evil({"".join(zoo.HTML)!r})
def slow():
    raise Evil({TEX + MARKS!r})"""


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
            nb["cells"].append(new_markdown_cell(TEX + MARKS))
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
    expect(page.locator(".total")).to_have_text("0.5 of 19 points")
    expect(page.locator(".late")).to_contain_text("1.5 points were taken off")
    expect(page.locator(".note")).to_contain_text("1 of the scores below waits")


def test_each_score_has_its_sentence(page: Page) -> None:
    items = page.locator(".item")
    few = items.filter(has_text="Three numbers, twice as large.")
    expect(few.locator(".verdict")).to_contain_text("Failed 0 / 2")
    expect(few.locator(".sentence")).to_have_text(
        "the wave is twice as high as the sine"
    )
    expect(few.locator(".hint")).to_have_count(1)
    expect(few.locator(".hint math")).to_have_count(2)
    expect(few.locator(".differs")).to_have_count(2)
    slow = items.filter(has_text="What takes its time.")
    expect(slow.locator(".word")).to_have_text("Took too long")
    expect(slow.locator(".sentence")).to_contain_text("Is there an endless loop?")
    raised = items.filter(has_text="A number that is no number.")
    expect(raised.locator(".word")).to_have_text("Error in your code")
    passed = items.filter(has_text="The first three numbers.")
    expect(passed.locator(".verdict")).to_contain_text("Passed 2 / 2")
    expect(passed.locator(".difference")).to_have_count(0)


def test_a_long_array_has_a_plot(page: Page) -> None:
    (plot,) = page.locator("svg.plot").all()
    expect(plot).to_have_role("img")
    expect(plot).to_have_accessible_name(re.compile("^Got against expected"))
    box = plot.bounding_box()
    assert box is not None
    assert box["width"] > 250
    sizes = (
        "[...document.querySelectorAll('.plot text')]"
        ".map(text => text.getBoundingClientRect().height)"
    )
    assert min(page.evaluate(sizes)) > 10


def test_formulas_are_drawn(page: Page) -> None:
    expect(page.locator(".markdown-cell math").first).to_be_visible()
    expect(page.locator("math[display=block] mtable")).to_be_visible()
    namespace = "document.querySelector('mfrac, msub').namespaceURI"
    assert page.evaluate(namespace) == "http://www.w3.org/1998/Math/MathML"
    assert "\\" not in page.locator(".markdown-cell").first.inner_text()


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#notebook")).to_be_focused()


def test_on_paper(browser: Browser, course: Course) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(page_of(course, "ada").as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.pdf(path=ARTIFACTS / "11-feedback.pdf", format="A4")
    page.close()


@pytest.mark.parametrize("view", [(360, "dark"), (1600, "light")])
def test_harm(browser: Browser, course: Course, view: tuple[int, str]) -> None:
    """Nothing of Mallory's runs, asks for anything, or leaves its place."""
    with opened(browser, page_of(course, MALLORY), view) as page:
        page.screenshot(path=ARTIFACTS / f"11-mallory-{view[0]}.png", full_page=True)
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= view[0]
        schemes = set(page.evaluate("[...document.links].map(link => link.protocol)"))
        assert schemes <= {"http:", "https:", "mailto:", "file:"}
        expect(page.locator(".over")).to_contain_text(MALLORY)
        # Every cell, and the end, are where the template puts them.
        text = (course.root / "submitted" / MALLORY / "waves/waves.ipynb").read_text()
        cells = page.locator("body > main > .notebook > .cell")
        expect(cells).to_have_count(len(json.loads(text)["cells"]))
        expect(page.locator("body > footer")).to_be_visible()
        assert (
            page.locator("[style], [onerror], [onload], [href^='javascript']").count()
            == 0
        )
        expect(page.locator("math [href], math [style]")).to_have_count(0)
        expect(
            page.locator("[title*='math'], [alt*='math'], a[href*='math']")
        ).to_have_count(0)
        serious = [
            each["id"]
            for each in Axe().run(page).response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == []
