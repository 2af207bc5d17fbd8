"""A submission full of scripts, opened by the people who read it."""

import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import zoo
from tests.browser.conftest import jupyter_lab
from tests.conftest import DOUBLE, Course

Shoot = Callable[[Page, str], None]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    folder = course.hand_out("ps", "mallory")
    nb = json.loads((folder / "p.ipynb").read_text())
    zoo.infest(nb)
    (folder / "p.ipynb").write_text(json.dumps(nb))
    (folder / "evil.html").write_text(zoo.PAGE)
    done = course.nbgrader("autograde ps", "generate_feedback ps")
    assert [one.status for one in done] == [0, 0], done[0].log + done[1].log
    return course


@pytest.fixture
def page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    page.on("dialog", lambda dialog: dialog.dismiss())
    return page


def assert_harmless(page: Page) -> None:
    """No script of the student's ran in any frame, and no link would make it."""
    assert [frame.evaluate("window.pwned") for frame in page.frames] == [None]
    schemes = set(page.evaluate("[...document.links].map(link => link.protocol)"))
    assert schemes <= {"http:", "https:", "mailto:", "file:"}


def test_feedback(course: Course, page: Page, shoot: Shoot) -> None:
    page.goto((course.root / "feedback/mallory/ps/p.html").as_uri())
    expect(page.locator(".total")).to_have_text("0 of 5 points")
    assert_harmless(page)
    shoot(page, "8-feedback")


def test_formgrader(
    course: Course,
    page: Page,
    shoot: Shoot,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ((name,),) = course.query("SELECT id FROM submitted_notebook")
    with jupyter_lab(course.root, tmp_path_factory.mktemp("staff")) as address:
        url = urlsplit(address)
        folder = f"{url.scheme}://{url.netloc}/formgrader/submissions/{name}"
        page.goto(address)  # signs in
        page.goto(f"{folder}/")
        # The page's own controls work, and nothing of the student's took their place.
        expect(page.locator("#test_visible")).to_have_attribute("placeholder", "0")
        comment = page.locator("textarea.comment")
        expect(comment).to_have_attribute("placeholder", re.compile("."))
        assert_harmless(page)
        shoot(page, "9-formgrader")
        page.goto(f"{folder}/evil.html")
        expect(page).to_have_title("evil")
        assert page.evaluate("window.pwned") is None
        page.close()
