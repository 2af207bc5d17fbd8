"""The class report in Chromium: by everybody, in any width, with nothing but itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ARTIFACTS, VIEWS, opened
from tests.conftest import Course
from tests.reporting.test_page import report, write_class

pytestmark = pytest.mark.browser
Shoot = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def file(new_course: Callable[[], Course]) -> Path:
    course = new_course()
    write_class(course.root)
    report(course)
    return course.root / "report.html"


@pytest.fixture(params=VIEWS, ids=lambda each: f"{each[0]}-{each[1]}")
def page(
    browser: Browser, file: Path, request: pytest.FixtureRequest
) -> Iterator[Page]:
    with opened(browser, file, request.param) as page:
        yield page


def open_all(page: Page) -> None:
    """Open all that is folded."""
    for summary in page.locator("summary").all():
        if summary.is_visible():
            summary.click()


def test_everybody_can_use_it(page: Page) -> None:
    """axe-core; once as it comes, once with all that is folded."""
    for _ in range(2):
        found = Axe().run(page).response["violations"]
        assert [each["id"] for each in found] == []
        open_all(page)


def test_it_is_as_wide_as_the_window(page: Page, shoot: Shoot) -> None:
    width = page.evaluate("window.innerWidth")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    shoot(page, f"10-report-{width}-{'dark' if dark else 'light'}")
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        "[...document.querySelectorAll('.plot text')]"
        ".map(text => text.getBoundingClientRect().height)"
    )
    assert min(sizes) > 10  # letters in plots, in pixels
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 24, 27)") is dark


def test_scripts_of_students_are_text(page: Page) -> None:
    open_all(page)
    assert page.evaluate("window.pwned") is None
    expect(page.locator("code", has_text="window.pwned=1").first).to_be_visible()
    assert page.evaluate("document.scripts.length") == 0


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    first = page.locator("main summary").first
    expect(first).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("main table").first).to_be_visible()
    # Plots have a name for those who do not see them.
    for plot in page.locator("svg.plot").all():
        expect(plot).to_have_role("img")
        assert plot.evaluate("svg => svg.querySelector('desc').textContent")


def test_on_paper(browser: Browser, file: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    ink = "getComputedStyle(document.body).color"
    assert page.evaluate(ink) == "rgb(0, 0, 0)"
    # What is folded is printed; the numbers beside a plot are left out.
    expect(page.get_by_text("Given4 Family4 (uid004)").first).to_be_visible()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.pdf(path=ARTIFACTS / "10-report.pdf", format="A4")
    page.close()
