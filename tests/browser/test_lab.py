"""One assignment's life in JupyterLab: instructor, student, instructor."""

import getpass
import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import (
    Browser,
    FrameLocator,
    Locator,
    Page,
    TimeoutError,
    expect,
)

from demo.__main__ import STUDENT_CONFIG
from demo.students import NOTEBOOKS, variant
from tests.browser.conftest import HEARD, evidence, jupyter_lab, listen
from tests.conftest import CLONE, Course

# Each test goes on where the one before stopped, on one worker (--dist loadfile).
pytestmark = [pytest.mark.browser, pytest.mark.steps]

ASSIGNMENT = "nnx-deep-nesting"
NOTEBOOK = NOTEBOOKS[ASSIGNMENT]
STUDENT = getpass.getuser()
SECONDS = 1000.0
expect.set_options(timeout=180 * SECONDS)  # one press of a button autogrades
Shoot = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    # A copy: JupyterLab saves what it has open.
    source = CLONE / "source" / ASSIGNMENT
    shutil.copytree(source, course.root / "source" / ASSIGNMENT)
    return course


@pytest.fixture(scope="module")
def instructor(
    course: Course, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """JupyterLab on the course, as `make lab` opens it."""
    with jupyter_lab(course.root, tmp_path_factory.mktemp("instructor")) as address:
        yield from opened(browser, address)


@pytest.fixture(scope="module")
def student(
    course: Course, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """JupyterLab in a student's home, which knows the course by three lines."""
    home = tmp_path_factory.mktemp("student")
    config = home / ".jupyter" / "nbgrader_config.py"
    config.parent.mkdir()
    config.write_text(STUDENT_CONFIG.format(exchange=course.root / "exchange"))
    with jupyter_lab(home, home) as address:
        yield from opened(browser, address)


def opened(browser: Browser, address: str) -> Iterator[Page]:
    page = listen(browser.new_page(viewport={"width": 1500, "height": 1000}))
    page.set_default_timeout(180 * SECONDS)
    page.goto(address)
    page.locator(".jp-Launcher").wait_for()
    yield page
    page.close()


def menu(page: Page, entry: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text="Nbgrader").click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()


def formgrader(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[src*=formgrader]")


def open_formgrader(page: Page) -> FrameLocator:
    """Open the formgrader by its menu. Where its list does not come, reload the tab.

    Its page asks once, and waits for ever if the answer is lost. One run has seen that
    and could not tell why: so what was heard is printed at the end, though it passes.
    """
    menu(page, "Formgrader")
    link = formgrader(page).locator("#main-table a").first
    try:
        link.wait_for(timeout=60 * SECONDS)
    except TimeoutError:
        HEARD.append(f"second try of the formgrader: {evidence()}")
        page.reload()
        menu(page, "Formgrader")
        link.wait_for()
    return formgrader(page)


def open_file(page: Page, path: str) -> Locator:
    """Open a notebook through JupyterLab's own file menu; return its panel."""
    page.locator(".lm-MenuBar-itemLabel", has_text="File").click()
    page.locator(".lm-Menu-itemLabel", has_text="Open from Path").click()
    page.locator(".jp-Dialog input").fill(path)
    page.locator(".jp-Dialog .jp-mod-accept").click()
    panel = page.locator(".jp-NotebookPanel:visible")
    panel.locator(".jp-Cell").first.wait_for()
    return panel


def succeed(frame: FrameLocator, button: Locator) -> None:
    """Press a formgrader button; its dialog must report a success."""
    button.click()
    dialog = frame.locator(".modal.in", has=frame.locator(".modal-title"))
    expect(dialog.locator(".modal-title")).to_contain_text("Success")
    dialog.get_by_role("button", name="OK").click()
    expect(frame.locator(".modal, .modal-backdrop")).to_have_count(0)


def test_1_instructor_generates_and_releases(
    instructor: Page, course: Course, shoot: Shoot
) -> None:
    frame = open_formgrader(instructor)
    row = frame.locator("tr", has_text=ASSIGNMENT)
    succeed(frame, row.locator(".glyphicon-education"))
    succeed(frame, row.locator(".glyphicon-cloud-upload"))
    expect(row).to_contain_text("released")
    shoot(instructor, "1-released")
    assert (course.root / "release" / ASSIGNMENT / f"{NOTEBOOK}.ipynb").exists()
    outbound = course.root / "exchange" / "jax" / "outbound" / ASSIGNMENT
    assert (outbound / f"{NOTEBOOK}.ipynb").exists()


def test_2_create_assignment_panel_reads_the_source(
    instructor: Page, shoot: Shoot
) -> None:
    open_file(instructor, f"source/{ASSIGNMENT}/{NOTEBOOK}.ipynb")
    menu(instructor, "Create assignment")
    panel = instructor.locator(".nbgrader-CreateAssignmentWidget")
    total = panel.locator(".nbgrader-TotalPointsInput:visible")
    expect(total).to_have_value("10")
    ids = panel.locator(".nbgrader-CellId input:visible")
    values = [ids.nth(n).input_value() for n in range(ids.count())]
    assert {"imports", NOTEBOOK, "test_shape_and_dtype"} <= set(values)
    shoot(instructor, "2-create-assignment")


def test_3_student_fetches(student: Page, shoot: Shoot) -> None:
    menu(student, "Assignment List")
    released = student.locator("#released_assignments_list")
    released.locator(".list_item", has_text=ASSIGNMENT).get_by_role(
        "button", name="Fetch"
    ).click()
    fetched = student.locator("#fetched_assignments_list")
    expect(fetched).to_contain_text(ASSIGNMENT)
    shoot(student, "3-fetched")


def test_3_fetched_notebook_opens_from_the_list_on_the_course_itself(
    instructor: Page, course: Course
) -> None:
    # With `make lab` an instructor can be a student, too.
    menu(instructor, "Assignment List")
    row = instructor.locator(
        "#released_assignments_list .list_item", has_text=ASSIGNMENT
    )
    row.get_by_role("button", name="Fetch").click()
    fetched = instructor.locator("#fetched_assignments_list")
    fetched.get_by_role("button", name=ASSIGNMENT).click()
    fetched.get_by_role("link", name=NOTEBOOK).click()
    tab = instructor.locator(".lm-TabBar-tab.lm-mod-current", has_text=NOTEBOOK)
    expect(tab).to_have_attribute("title", re.compile(f"Path: {ASSIGNMENT}/"))
    assert (course.root / ASSIGNMENT / f"{NOTEBOOK}.ipynb").exists()


def test_4_student_solves_and_validates(student: Page, shoot: Shoot) -> None:
    panel = open_file(student, f"{ASSIGNMENT}/{NOTEBOOK}.ipynb")
    dialog = student.locator(".jp-Dialog")
    panel.get_by_role("button", name="Validate").click()
    expect(dialog).to_contain_text("Your code raised NotImplementedError")
    expect(dialog).not_to_contain_text("Traceback")
    shoot(student, "4-not-yet")
    dialog.locator(".jp-mod-accept").click()
    cell = panel.locator(".jp-CodeCell", has_text=f"def {NOTEBOOK}(").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    student.keyboard.press("Control+A")
    student.keyboard.insert_text(variant(ASSIGNMENT, "right_deprecated_value")[1])
    student.keyboard.press("Control+S")
    panel.get_by_role("button", name="Validate").click()
    expect(dialog).to_contain_text("Success! Your notebook passes all the tests.")
    shoot(student, "4-validated")
    dialog.locator(".jp-mod-accept").click()


def test_5_student_submits(student: Page, course: Course, shoot: Shoot) -> None:
    menu(student, "Assignment List")
    fetched = student.locator("#fetched_assignments_list")
    fetched.locator(".list_item", has_text=ASSIGNMENT).get_by_role(
        "button", name="Submit"
    ).first.click()
    expect(student.locator("#submitted_assignments_list")).to_contain_text(ASSIGNMENT)
    shoot(student, "5-submitted")
    inbound = course.root / "exchange" / "jax" / "inbound"
    assert len(list(inbound.glob(f"{STUDENT}+{ASSIGNMENT}+*"))) == 1


def test_5_student_works_on_a_sandboxed_kernel(student: Page, shoot: Shoot) -> None:
    student.locator(".lm-MenuBar-itemLabel", has_text="File").click()
    student.locator(".lm-Menu-itemLabel", has_text="New Launcher").click()
    card = student.locator(".jp-LauncherCard:visible", has_text="JAX (sandboxed)")
    card.first.click()
    panel = student.locator(".jp-NotebookPanel:visible")
    panel.locator(".cm-content").first.click()
    expect(student.locator("#jp-main-statusbar")).to_contain_text(
        "JAX (sandboxed) | Idle"
    )
    student.keyboard.insert_text(SANDBOXED)
    student.keyboard.press("Shift+Enter")
    output = panel.locator(".jp-OutputArea-output").first
    expect(output).to_contain_text("/home/student 14.0 no course saved")
    shoot(student, "5-sandboxed")


#: What a kernel at work sees of the student's files and of the machine.
SANDBOXED = f"""\
import os, pathlib, jax.numpy as jnp
pathlib.Path("own.txt").write_text("saved")
course = os.path.exists({str(CLONE / "source")!r})
print(os.environ["HOME"], jnp.arange(4.0) @ jnp.arange(4.0),
      "a course" if course else "no course", pathlib.Path("own.txt").read_text())"""


def test_6_instructor_collects_and_autogrades(
    instructor: Page, course: Course, shoot: Shoot
) -> None:
    frame = open_formgrader(instructor)
    frame.get_by_role("link", name="Manage Assignments").click()
    row = frame.locator("tr", has_text=ASSIGNMENT)
    succeed(frame, row.locator(".glyphicon-cloud-download"))
    row.locator(".num-submissions a").click()
    submission = frame.locator("tr", has_text=STUDENT)
    succeed(frame, submission.locator(".glyphicon-flash"))
    expect(submission.locator(".score")).to_have_text("10 / 10")
    shoot(instructor, "6-autograded")
    assert sum(float(str(s)) for s in course.scores(STUDENT, ASSIGNMENT).values()) == 10


def test_7_instructor_reads_and_comments(
    instructor: Page, course: Course, shoot: Shoot
) -> None:
    frame = formgrader(instructor)
    frame.get_by_role("link", name="Manual Grading").click()
    frame.get_by_role("link", name=ASSIGNMENT).click()
    frame.get_by_role("link", name=NOTEBOOK).click()
    frame.get_by_role("link", name=re.compile("Submission")).first.click()
    comment = frame.locator("textarea.comment").first
    # The page fetches the comments after it is shown; what was typed before is lost.
    expect(comment).to_have_attribute("placeholder", re.compile("."))
    comment.fill("Well done: every level does one thing.")
    with instructor.expect_response(
        lambda response: (
            "/api/comment/" in response.url and response.request.method == "PUT"
        )
    ) as saved:
        comment.blur()
    assert saved.value.ok
    score = frame.locator("input.score").first
    expect(score).to_have_attribute("placeholder", "2")
    shoot(instructor, "7-commented")
    texts = course.query("SELECT manual_comment FROM comment")
    assert ("Well done: every level does one thing.",) in texts
