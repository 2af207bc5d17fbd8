"""The README's pictures, taken anew: `make screenshots`.

A class of twelve is graded in a real terminal of JupyterLab, then in the panel; the
report and a feedback page are opened from the disk. All of it is in a scratch folder.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Page

from demo.students import NOTEBOOKS, VARIANTS, answer
from tests.browser.conftest import chromium, jupyter_lab
from tests.conftest import BARE

CLONE = Path(__file__).parent.parent
PICTURES = CLONE / "docs"
PROGRAMS = Path(sys.executable).parent
CLASS = [
    *("ada", "bea", "carl", "dora", "emil", "fay"),
    *("gus", "hana", "ivo", "jun", "kira", "leo"),
]
#: What is graded once more, in the panel, and whose feedback is shown.
AGAIN, STUDENT = "nnx-scan-rnn", "carl"
PATIENCE = 600_000.0


class Lab:
    """A page of JupyterLab on the course, and what its panel's handlers say."""

    def __init__(self, page: Page, address: str) -> None:
        url = urlsplit(address)
        self.page, self.base = page, f"{url.scheme}://{url.netloc}"
        token = parse_qs(url.query)["token"][0]
        self.headers = {"Authorization": f"token {token}"}
        page.goto(address)
        page.locator(".jp-Launcher").first.wait_for()

    def state(self) -> dict[str, Any]:
        path = f"{self.base}/jaxgrader/api/state"
        reply = self.page.request.get(path, headers=self.headers)
        found: dict[str, Any] = reply.json()
        return found

    def until(self, true: Callable[[dict[str, Any]], object]) -> None:
        """Return when something is true of the course."""
        while not true(self.state()):
            self.page.wait_for_timeout(200)

    def start(self, assignment: str) -> None:
        """Grade all submissions of an assignment again."""
        order = {"what": "all", "submissions": [{"assignment": assignment}]}
        path = f"{self.base}/jaxgrader/api/start"
        reply = self.page.request.post(path, data=order, headers=self.headers)
        if not reply.ok:
            raise RuntimeError(reply.text())


def make_course(root: Path, home: Path) -> None:
    """Make a course whose class has handed in all assignments.

    What the solutions compile is kept where the server's kernels find it.
    """
    root.mkdir()
    shutil.copy(CLONE / "nbgrader_config.py", root)
    shutil.copytree(CLONE / "source", root / "source")
    for assignment, notebook in NOTEBOOKS.items():
        run("nbgrader", "generate_assignment", assignment, root=root, home=home)
        names = sorted(path.stem for path in (VARIANTS / assignment).glob("*.py"))
        right = [name for name in names if name.startswith("right")]
        wrong = [name for name in names if name.startswith("wrong")]
        for number, student in enumerate(CLASS):
            folder = root / "submitted" / student / assignment
            shutil.copytree(root / "release" / assignment, folder)
            some = right if number % 3 != 2 else wrong
            variant = some[number // 3 % len(some)]
            answer(assignment, variant)(folder / f"{notebook}.ipynb")
    (root / "submitted" / "leo" / AGAIN / f"{NOTEBOOKS[AGAIN]}.ipynb").write_text("{")


def run(program: str, *arguments: str, root: Path, home: Path) -> None:
    """Run a command in the course, as the person whose home is `home`."""
    command = [str(PROGRAMS / program), *arguments]
    env = {**BARE, "HOME": str(home)}  # the server's, its cache included
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{program} {' '.join(arguments)}:\n{done.stderr}")


def shoot_terminal(lab: Lab) -> None:
    """Grade the class in a terminal of JupyterLab; take it at half time and after."""
    page = lab.page
    page.set_viewport_size({"width": 1200, "height": 560})
    page.locator('.jp-LauncherCard[title="Start a new terminal session"]').click()
    terminal = page.locator(".jp-Terminal")
    terminal.locator(".xterm-helper-textarea").wait_for(state="attached")
    terminal.click()
    for line in (f"PATH={PROGRAMS}:$PATH; PS1='$ '; clear", "jaxgrader autograde"):
        page.keyboard.type(line)
        page.keyboard.press("Enter")
    half = len(CLASS) * len(NOTEBOOKS) // 2
    lab.until(lambda state: graded(state) >= half)
    terminal.screenshot(path=PICTURES / "progress.png")
    lab.until(lambda state: not state["batch"])
    page.wait_for_timeout(3000)
    terminal.screenshot(path=PICTURES / "terminal.png")


def graded(state: dict[str, Any]) -> int:
    """Return how many submissions have been graded."""
    counts = [each["counts"] for each in state["assignments"]]
    return sum(each.get("graded", 0) + each.get("failed", 0) for each in counts)


def shoot_panel(lab: Lab) -> None:
    """Grade one assignment again; take the panel while it runs."""
    page = lab.page
    page.set_viewport_size({"width": 1200, "height": 800})
    page.keyboard.press("Control+Shift+L")
    page.locator(".jp-LauncherCard", has_text="Jax Grader").last.click()
    page.get_by_role("button", name=AGAIN).first.click()
    lab.start(AGAIN)
    lab.until(lambda state: state["batch"] and state["batch"]["done"] >= 5)
    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / "panel.png")
    lab.until(lambda state: not state["batch"])


def shoot_pages(browser: Browser, root: Path, home: Path) -> None:
    """Take the class report, and a student's feedback."""
    run("jaxgrader", "report", root=root, home=home)
    feedback = "generate_feedback", AGAIN, f"--student={STUDENT}"
    run("nbgrader", *feedback, root=root, home=home)
    page_of = root / "feedback" / STUDENT / AGAIN / f"{NOTEBOOKS[AGAIN]}.html"
    for name, file in (("report", root / "report.html"), ("feedback", page_of)):
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(file.as_uri())
        page.screenshot(path=PICTURES / f"{name}.png")
        page.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="jaxgrader-pictures-") as folder:
        root, home = Path(folder, "course"), Path(folder, "home")
        home.mkdir()
        make_course(root, home)
        with chromium() as browser, jupyter_lab(root, home) as at:
            page = browser.new_page(viewport={"width": 1200, "height": 800})
            page.set_default_timeout(PATIENCE)
            lab = Lab(page, at)
            shoot_terminal(lab)
            shoot_panel(lab)
            page.close()
            shoot_pages(browser, root, home)
    print(f"The pictures are in {PICTURES}: look at them.")


if __name__ == "__main__":
    main()
