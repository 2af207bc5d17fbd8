"""Who gets an answer: course staff, as the formgrader has it, and nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxgrader.lab.handlers import HANDLERS
from tests.conftest import Course
from tests.lab.conftest import Client, served

ONE = {"what": "all", "submissions": [{"assignment": "ps", "student": "ada"}]}
JSON = {"Content_Type": "application/json"}
#: What a browser on another site's page adds.
ELSEWHERE = {"Origin": "https://evil.example", "Referer": "https://evil.example/"}
PATHS = [f"/jaxgrader/api/{name}" for name in HANDLERS]


def refused(client: Client, status: set[int], **headers: str) -> None:
    """Assert that whatever is asked or ordered with such headers is refused."""
    for path in PATHS:
        for method, body in (("GET", None), ("POST", ONE)):
            found, said, _ = client.request(method, path, body, **JSON, **headers)
            assert found in status, (method, path, said)
            assert "assignments" not in said


def test_nobody_without_the_token(client: Client, course: Course) -> None:
    refused(client, {403})
    refused(client, {403}, Authorization=f"token {'0' * 32}")
    assert not (course.root / ".jaxgrader").exists()


@pytest.fixture
def cookies(client: Client) -> dict[str, str]:
    """Cookies of a browser that has signed in."""
    path = f"/lab?token={client.token}"
    _, _, first = client.request("GET", path)
    signed = first.get_all("Set-Cookie") or []
    kept = "; ".join(each.split(";")[0] for each in signed)
    _, _, second = client.request("GET", "/lab", Cookie=kept)
    signed += second.get_all("Set-Cookie") or []
    pairs = [each.split(";")[0].split("=", 1) for each in signed]
    return {name: value for name, value in pairs}


def as_header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def test_a_cookie_alone_orders_nothing(
    client: Client, course: Course, cookies: dict[str, str]
) -> None:
    cookie = as_header(cookies)
    path, survey = "/jaxgrader/api/start", "/jaxgrader/api/survey"
    for forged in ({}, {"X_XSRFToken": "guessed"}, ELSEWHERE):
        status, said, _ = client.request(
            "POST", path, ONE, Cookie=cookie, **JSON, **forged
        )
        assert status in (403, 404), said
    token = {"X_XSRFToken": cookies["_xsrf"]}
    status, said, _ = client.request(
        "POST", path, ONE, Cookie=cookie, **JSON, **token, **ELSEWHERE
    )
    assert status == 404, "another site's, with all that a browser would send"
    assert not (course.root / ".jaxgrader").exists()
    status, said, _ = client.request("POST", survey, {}, Cookie=cookie, **JSON, **token)
    assert status == 202, said


def test_another_sites_page_reads_nothing(
    client: Client, cookies: dict[str, str]
) -> None:
    refused(client, {403, 404}, Cookie=as_header(cookies), **ELSEWHERE)


def test_nobody_where_the_formgrader_is_not_enabled(
    course: Course, tmp_path: Path
) -> None:
    off = "--ServerApp.jpserver_extensions=nbgrader.server_extensions.formgrader=False"
    with served(course.root, tmp_path, off) as client:
        status, said = client.ask("state")
        assert status == 403
        assert "does not have nbgrader's formgrader" in said["message"]
        refused(client, {403}, **client.allowed)


@contextmanager
def configured(course: Course, text: str) -> Iterator[None]:
    """Let the course's settings have a text more."""
    config = course.root / "nbgrader_config.py"
    before = config.read_text()
    config.write_text(before + text)
    try:
        yield
    finally:
        config.write_text(before)


PLUGIN = """
from nbgrader.auth import BaseAuthPlugin


class Elsewhere(BaseAuthPlugin):
    def get_student_courses(self, student_id):
        {answer}


c.Authenticator.plugin_class = Elsewhere
"""


@pytest.mark.parametrize(
    ("answer", "status", "sentence"),
    [
        ("return ['another']", 403, "you are not one of this course's"),
        ("raise OSError('the hub is away')", 503, "failed with OSError"),
        ("return ['jax', 'another']", 200, ""),
    ],
)
def test_nobody_whom_nbgraders_authenticator_does_not_give_the_course(
    course: Course, tmp_path: Path, answer: str, status: int, sentence: str
) -> None:
    changed = configured(course, PLUGIN.format(answer=answer))
    with changed, served(course.root, tmp_path) as client:
        found, said = client.ask("state")
        assert found == status, said
        assert sentence in said.get("message", "")
        if status != 200:
            refused(client, {status}, **client.allowed)


#: A server that a hub keeps: each person has a token, and groups. (The names are those
#: of jupyterhub-singleuser.)
HUB = """
from jupyter_server.auth.identity import IdentityProvider, User

GROUPS = {
    "student-token": ["nbgrader-jax"],
    "grader-token": ["nbgrader-jax", "formgrade-jax"],
}


class HubUser(User):
    @property
    def hub_user(self):
        return {"name": self.username, "groups": GROUPS[self.username]}


class Hub(IdentityProvider):
    def get_user_token(self, handler):
        token = self.get_token(handler)
        return HubUser(token) if token in GROUPS else None

    def user_from_cookie(self, value):
        return HubUser(super().user_from_cookie(value).username)


c.ServerApp.identity_provider_class = Hub
"""


STUDENT, GRADER = "token student-token", "token grader-token"


def test_no_student_of_the_hubs(course: Course, tmp_path: Path) -> None:
    settings = tmp_path / "settings" / "jupyter_server_config.py"
    settings.parent.mkdir()
    settings.write_text(HUB)
    with served(course.root, tmp_path) as client:
        refused(client, {403}, Authorization=STUDENT)
        status, said, _ = client.request("GET", PATHS[0], Authorization=GRADER)
        assert status == 200, said
    assert not (course.root / ".jaxgrader").exists()
