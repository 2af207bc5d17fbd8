"""The Jax Grader panel: a batch started, watched, cancelled, resumed in JupyterLab."""

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from jaxgrader.lock import Holder
from tests.browser.conftest import jupyter_lab, listen
from tests.conftest import DOUBLE, Course
from tests.lab.conftest import ENDLESS, RIGHT, WRONG, answer
from tests.lab.test_access import HUB

# Each test goes on where the one before stopped, on one worker (--dist loadfile).
pytestmark = pytest.mark.browser

SECONDS = 1000.0
expect.set_options(timeout=180 * SECONDS)
Shoot = Callable[[Page, str], None]
ATTACK = "<img src=x onerror=window.pwned=1>"
ANSWERS = {
    "ada": RIGHT,
    "bob": WRONG,
    "cleo": "raise ValueError('<b>no</b>')",
    ATTACK: RIGHT,
}


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    """A course whose batch goes on until it is cancelled, for `endless`."""
    course = new_course()
    for name in ("ps", "other"):
        course.write_source(name, "p", DOUBLE)
    done = course.nbgrader("generate_assignment ps", "generate_assignment other")
    assert [each.status for each in done] == [0, 0], done[0].log
    for student, text in {**ANSWERS, "endless": ENDLESS}.items():
        answer(course, student, text)
    (course.hand_out("ps", "dan") / "p.ipynb").write_text("{")
    course.hand_out("other", "ada")
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write("\nc.BatchApp.workers = 2\nc.Limits.cell = 170\n")
    return course


class Server:
    """JupyterLab on the course, which can be ended and started again."""

    def __init__(self, course: Course, home: Path) -> None:
        self.course, self.home = course, home
        self.running = ExitStack()
        self.token, self.port = secrets.token_hex(16), 0

    def start(self) -> None:
        lab = jupyter_lab(self.course.root, self.home, port=self.port, token=self.token)
        self.address = self.running.enter_context(lab)
        self.port = urlsplit(self.address).port or 0

    def stop(self) -> None:
        self.running.close()


@pytest.fixture(scope="module")
def server(
    course: Course, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(course, tmp_path_factory.mktemp("staff"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1400, "height": 950})
    context.set_default_timeout(180 * SECONDS)
    yield context
    context.close()


@pytest.fixture(scope="module")
def first(context: BrowserContext, server: Server) -> Page:
    return opened(context, server.address)


@pytest.fixture(scope="module")
def second(context: BrowserContext, server: Server, first: Page) -> Page:
    """Another tab of the same browser."""
    return opened(context, server.address)


def opened(context: BrowserContext, address: str) -> Page:
    """Open the panel in a new tab."""
    page = listen(context.new_page())
    # JupyterLab asks about news, and says that the server is away: not our subject.
    page.add_locator_handler(
        page.locator(".jp-Dialog"), lambda: page.keyboard.press("Escape")
    )
    page.goto(f"{address}&reset")  # no tab takes over what another has open
    page.locator(".jp-LauncherCard", has_text="Jax Grader").click()
    page.locator(".jg-Fold", has_text="ps").wait_for()
    return page


def status(page: Page) -> Locator:
    return page.locator(".jg-Status")


def row(page: Page, student: str) -> Locator:
    """Return a submission's row, with its assignment unfolded."""
    fold = page.get_by_role("button", name="ps", exact=True)
    if fold.get_attribute("aria-expanded") == "false":
        fold.click()
    name = page.get_by_role("rowheader", name=student, exact=True)
    return page.locator(".jg-Submissions tr", has=name)


def state(page: Page, student: str) -> Locator:
    return row(page, student).locator(".jg-State")


def count(page: Page, assignment: str) -> Locator:
    """Return an assignment's row of counts."""
    name = page.get_by_role("button", name=assignment, exact=True)
    return page.locator(".jg-Assignments > tbody > tr", has=name)


def test_1_the_panel_lists_what_there_is(first: Page, shoot: Shoot) -> None:
    expect(first.locator(".jg-Course")).to_have_text("jax")
    expect(count(first, "ps")).to_have_text(re.compile("^ps66$"))
    expect(count(first, "other")).to_have_text(re.compile("^other11$"))
    expect(state(first, "ada")).to_have_text("not graded")
    expect(state(first, ATTACK)).to_have_text("not graded")
    expect(status(first)).to_have_text("Nothing is being graded.")
    shoot(first, "panel-1-idle")


def test_2_a_batch_starts_and_its_progress_is_live(first: Page, shoot: Shoot) -> None:
    first.get_by_label("Select ps").check()
    starting = first.get_by_role("region", name="Start a batch")
    expect(starting).to_contain_text("of those that are selected")
    first.get_by_role("button", name="Grade 6 submissions").click()
    expect(state(first, "endless")).to_have_text("running")
    expect(state(first, "ada")).to_have_text("graded")
    expect(state(first, "dan")).to_have_text("failed")
    expect(row(first, "dan")).to_contain_text("cannot be read as a notebook")
    expect(status(first)).to_have_text(
        re.compile("^Grading: 5 of 6 done, 1 running, 0 queued")
    )
    expect(first.locator(".jg-Running")).to_have_text("ps · endless")
    progress = first.get_by_role("progressbar", name="Progress of the batch")
    expect(progress).to_have_js_property("value", 5)
    expect(first.get_by_role("button", name="Grade", exact=True)).to_be_disabled()
    expect(first.locator(".jg-Spoken")).to_have_text("5 of 6 submissions graded.")
    shoot(first, "panel-2-running")


def test_3_another_tab_sees_the_same(first: Page, second: Page) -> None:
    expect(state(second, "endless")).to_have_text("running")
    expect(status(second)).to_have_text(re.compile("^Grading: 5 of 6 done"))
    expect(second.get_by_role("button", name="Cancel")).to_be_enabled()


def test_4_a_restart_of_the_server_leaves_the_batch_alone(
    first: Page, second: Page, server: Server, course: Course
) -> None:
    before = Holder.of(course.root)
    assert before is not None
    server.stop()
    for page in (first, second):
        page.bring_to_front()
        expect(page.locator(".jg-Trouble").first).to_contain_text("does not answer")
    assert Holder.of(course.root) == before
    server.start()
    for page in (first, second):
        page.bring_to_front()
        expect(page.locator(".jg-Trouble").first).to_be_hidden()
        expect(status(page)).to_have_text(re.compile("^Grading: 5 of 6 done, 1 run"))
        expect(state(page, "endless")).to_have_text("running")
    assert Holder.of(course.root) == before


def test_5_cancelled_in_one_tab_it_ends_in_both(
    first: Page, second: Page, course: Course
) -> None:
    second.bring_to_front()
    second.get_by_role("button", name="Cancel").click()
    for page in (second, first):
        page.bring_to_front()
        expect(status(page)).to_have_text("Nothing is being graded.")
        expect(state(page, "endless")).to_have_text("not graded")
        expect(page.locator(".jg-Batch")).to_contain_text("Stopped: 5 of 6")
        expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    assert Holder.of(course.root) is None


def written(course: Course) -> dict[str, int]:
    folders = (course.root / "autograded").glob("*/ps/p.ipynb")
    return {path.parts[-3]: path.stat().st_ino for path in folders}


def test_6_the_rest_is_graded_and_nothing_twice(first: Page, course: Course) -> None:
    before = written(course)
    answer(course, "endless", RIGHT)
    first.get_by_role("button", name="Grade 1 submission").click()
    expect(state(first, "endless")).to_have_text("graded")
    expect(status(first)).to_have_text("Nothing is being graded.")
    after = written(course)
    assert {name: after[name] for name in before} == before
    assert course.scores("endless", "ps")["test_hidden"] == 3


def test_7_one_is_graded_again(first: Page, course: Course) -> None:
    before = written(course)
    row(first, "ada").get_by_role("button", name="Grade ps of ada").click()
    expect(status(first)).not_to_have_text("Nothing is being graded.")
    expect(status(first)).to_have_text("Nothing is being graded.")
    expect(state(first, "ada")).to_have_text("graded")
    after = written(course)
    assert {name for name in after if after[name] != before[name]} == {"ada"}


def test_8_selected_students_are_graded_again_when_that_is_confirmed(
    first: Page, course: Course
) -> None:
    before = written(course)
    first.get_by_label("Select ps").uncheck()
    for student in ("bob", "cleo"):
        row(first, student).get_by_role("checkbox").check()
    first.get_by_text("All, again").click()
    first.remove_locator_handler(first.locator(".jp-Dialog"))
    first.get_by_role("button", name="Grade 2 submissions").click()
    first.locator(".jp-Dialog .jp-mod-accept").click()
    expect(status(first)).not_to_have_text("Nothing is being graded.")
    expect(status(first)).to_have_text("Nothing is being graded.")
    after = written(course)
    assert {name for name in after if after[name] != before[name]} == {"bob", "cleo"}


def test_9_its_log_its_notebook_and_its_page_open(
    first: Page, context: BrowserContext, shoot: Shoot
) -> None:
    shoot(first, "panel-3-graded")
    found_by_axe = Axe().run(first, context=".jg-Panel").response["violations"]
    assert [each["id"] for each in found_by_axe] == []
    with context.expect_page() as found:
        row(first, "ada").get_by_role("link", name=re.compile("formgrader")).click()
    expect(found.value.locator("#test_hidden")).to_have_attribute("placeholder", "3")
    found.value.close()
    first.bring_to_front()
    row(first, "dan").get_by_role("button", name="Open the log of dan").click()
    expect(first.locator(".jg-Log-text")).to_be_visible()
    expect(first.locator(".jg-Log h2")).to_have_text("Log: dan · ps")
    first.get_by_role("tab", name="Jax Grader").click()
    first.get_by_role("button", name="Log of the batch").click()
    expect(first.locator(".jg-Log-text:visible")).to_contain_text('"student": "bob"')
    first.get_by_role("tab", name="Jax Grader").click()
    row(first, "cleo").get_by_role("button", name=re.compile("notebook")).click()
    notebook = first.locator(".jp-NotebookPanel:visible")
    expect(
        notebook.locator(".jp-CodeCell", has_text="raise ValueError")
    ).to_be_visible()
    first.get_by_role("tab", name="Jax Grader").click()
    first.get_by_role("button", name="Make the class report").click()
    with context.expect_page() as made:
        first.get_by_role("link", name=re.compile("Open the report")).click()
    expect(made.value.locator("h1").first).to_be_visible()
    made.value.close()
    assert first.evaluate("window.pwned") is None


def test_a_student_of_the_hub_has_no_panel(
    course: Course, browser: Browser, tmp_path: Path
) -> None:
    settings = tmp_path / "settings" / "jupyter_server_config.py"
    settings.parent.mkdir()
    settings.write_text(HUB)
    with jupyter_lab(course.root, tmp_path) as address:
        for token, cards in (("student-token", 0), ("grader-token", 1)):
            page = browser.new_page()
            path = urlsplit(address)._replace(query=f"token={token}").geturl()
            with page.expect_response(re.compile("jaxgrader/api/state")) as reply:
                page.goto(path)
            assert reply.value.status == (200 if cards else 403)
            page.locator(".jp-LauncherCard", has_text="Terminal").wait_for()
            card = page.locator(".jp-LauncherCard", has_text="Jax Grader")
            expect(card).to_have_count(cards)
            page.close()
