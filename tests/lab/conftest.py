"""A small class to grade, and requests to a Jupyter server that has the panel."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import nbformat
import pytest

from tests.browser.conftest import jupyter_lab
from tests.conftest import DOUBLE, Course

RIGHT = "def double(x):\n    return 2 * x"
WRONG = "def double(x):\n    return 4"
#: Holds a batch until it is cancelled: it would be stopped after half a minute.
ENDLESS = "while True: pass"
#: Names that mean something to a shell, a command line, a pattern or a page.
HOSTILE = ["-rf", "*", "a,b c", "<img src=x onerror=pwned=1>", "日本 ü"]
ANSWERS = {"ada": RIGHT, "bob": WRONG, "cleo": RIGHT, **dict.fromkeys(HOSTILE, RIGHT)}


def answer(course: Course, student: str, text: str) -> None:
    """Hand in an answer to the one notebook of `ps`."""
    path = course.root / "submitted" / student / "ps" / "p.ipynb"
    if not path.exists():
        course.hand_out("ps", student)
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].source = text
    nbformat.write(nb, path)


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    """A course whose class has handed in, and nobody is graded."""
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    (done,) = course.nbgrader("generate_assignment ps")
    assert done.status == 0, done.log
    for student, text in ANSWERS.items():
        answer(course, student, text)
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write("\nc.BatchApp.workers = 2\n")
    return course


class Client:
    """Requests to a server, with its token or without."""

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self.host = url.netloc
        self.token = parse_qs(url.query)["token"][0]

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Return the status, the body and the headers of an answer."""
        link = http.client.HTTPConnection(self.host, timeout=60)
        try:
            text = body if isinstance(body, str | None) else json.dumps(body)
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            link.request(method, path, text, names)
            reply = link.getresponse()
            read = reply.read()
            kind = reply.headers.get("Content-Type", "")
            said = json.loads(read) if kind.startswith("application/json") else read
            return reply.status, said, reply.headers
        finally:
            link.close()

    @property
    def allowed(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def ask(self, name: str, **query: str) -> tuple[int, Any]:
        """Ask the panel's handlers, as the one whose server it is."""
        path = f"/jaxgrader/api/{name}?{urlencode(query)}"
        return self.request("GET", path, **self.allowed)[:2]

    def order(self, name: str, body: Any) -> tuple[int, Any]:
        """Order something."""
        kind = {"Content_Type": "application/json"}
        path = f"/jaxgrader/api/{name}"
        return self.request("POST", path, body, **self.allowed, **kind)[:2]

    def until(self, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Ask for the state until something is true of it, as the panel does."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status, state = self.ask("state")
            if status == 200 and true(state):
                return dict(state)
            time.sleep(0.1)
        raise AssertionError(f"that did not come true of {state}")

    def students(self) -> dict[str, dict[str, Any]]:
        """Return what the panel shows of the submissions of `ps`."""
        status, said = self.ask("submissions", assignment="ps")
        assert status == 200, said
        return {each["student"]: each for each in said["submissions"]}

    def grade(self, what: str, *students: str) -> dict[str, Any]:
        """Run a batch to its end; return the state then."""
        these = [{"assignment": "ps", "student": each} for each in students]
        body = {"what": what, "submissions": these or [{"assignment": "ps"}]}
        status, said = self.order("start", body)
        assert status == 202, said
        return self.until(over)


def over(state: dict[str, Any]) -> bool:
    return not (state["batch"] or state["starting"])


@contextmanager
def served(root: Path, home: Path, *options: str) -> Iterator[Client]:
    """Run a Jupyter server on a folder."""
    with jupyter_lab(root, home, *options) as address:
        yield Client(address)


@pytest.fixture(scope="module")
def client(
    course: Course, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server on the course; its survey is done."""
    with served(course.root, tmp_path_factory.mktemp("staff")) as client:
        client.until(lambda state: state["surveyed"])
        yield client
