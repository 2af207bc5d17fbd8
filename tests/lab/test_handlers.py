"""The panel's requests to a real Jupyter server, which starts real batches."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest

from jaxgrader.lock import Holder, Lock
from tests.conftest import BARE, Course
from tests.lab.conftest import ANSWERS, ENDLESS, HOSTILE, RIGHT, Client, answer, over
from tests.test_cli import PROGRAM

# Each test goes on where the one before stopped, on one worker (--dist loadfile).

ONE = {"assignment": "ps", "student": "ada"}


def counts(state: dict[str, Any]) -> dict[str, int]:
    """Return how many submissions of `ps` stand where; none while it is released."""
    found = {each["name"]: each["counts"] for each in state["assignments"]}
    return dict(found.get("ps", {}))


def test_1_nothing_is_made_by_looking(client: Client, course: Course) -> None:
    state = client.until(lambda state: state["surveyed"])
    assert state["course"] == "jax"
    assert counts(state) == {"not graded": len(ANSWERS)}
    assert not state["batch"]
    assert not state["trouble"]
    assert not (course.root / ".jaxgrader").exists()
    assert not (course.root / "autograded").exists()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, []),
        (400, {}),
        (400, {"what": "missing"}),
        (400, {"what": "missing", "submissions": []}),
        (400, {"what": "missing", "submissions": "ps"}),
        (400, {"what": "--force", "submissions": [ONE]}),
        (400, {"what": ["all"], "submissions": [ONE]}),
        (400, {"what": "all", "submissions": [{**ONE, "student": 1}]}),
        (400, {"what": "all", "submissions": [{**ONE, "config": "x.py"}]}),
        (400, {"what": "all", "submissions": ["ps"]}),
        (404, {"what": "all", "submissions": [{"student": "ada"}]}),
        (404, {"what": "all", "submissions": [{"assignment": "../ps"}]}),
        (404, {"what": "all", "submissions": [{"assignment": "--force"}]}),
        (404, {"what": "all", "submissions": [{"assignment": "*"}]}),
        (404, {"what": "all", "submissions": [{**ONE, "student": "a*"}]}),
        (404, {"what": "all", "submissions": [{**ONE, "student": "../ada"}]}),
        (404, {"what": "all", "submissions": [ONE, {**ONE, "student": "eve"}]}),
        (400, "{"),
    ],
)
def test_2_what_names_no_submission_starts_nothing(
    client: Client, course: Course, status: int, body: Any
) -> None:
    assert client.order("start", body)[0] == status
    assert not (course.root / ".jaxgrader").exists()


def test_3_a_body_that_a_form_of_another_site_could_send_is_no_order(
    client: Client,
) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        status, said, _ = client.request(
            "POST",
            "/jaxgrader/api/start",
            {"what": "all", "submissions": [ONE]},
            Content_Type=kind,
            **client.allowed,
        )
        assert status == 415, said


def test_4_a_batch_grades_what_is_missing_whatever_its_name(
    client: Client, course: Course
) -> None:
    state = client.grade("missing")
    assert counts(state) == {"graded": len(ANSWERS)}
    assert f"Done: {len(ANSWERS)} graded." in state["last_words"]
    students = client.students()
    assert students.keys() == ANSWERS.keys()
    for student, each in students.items():
        (notebook,) = each["notebooks"]
        assert notebook["path"] == f"autograded/{student}/ps/p.ipynb"
        assert (course.root / notebook["path"]).is_file()
        status, page, _ = client.request(
            "GET", f"/{notebook['page']}", **client.allowed
        )
        assert status == 200, page
    assert course.scores("ada", "ps")["test_hidden"] == 3
    assert course.scores("bob", "ps")["test_hidden"] == 0


def test_4_its_log_is_there(client: Client) -> None:
    status, said = client.ask("log", assignment="ps", student="ada")
    assert status == 200
    assert "test_hidden: passed, 3 of 3" in said["log"]
    _, said = client.ask("log", assignment="ps", student="bob")
    assert "test_hidden: failed, 0 of 3" in said["log"]
    status, said = client.ask("batch-log")
    assert '"student": "ada"' in said["log"]
    for student in ("eve", "../ada", "a*"):
        assert client.ask("log", assignment="ps", student=student)[0] == 404


def test_4_the_class_report_is_made_and_shown_as_no_page_of_the_servers(
    client: Client,
) -> None:
    path = "/jaxgrader/api/report"
    assert client.request("GET", path, **client.allowed)[0] == 404
    assert client.order("report", {"anonymous": "no"})[0] == 400
    for anonymous in (False, True):
        status, said = client.order("report", {"anonymous": anonymous})
        assert status == 200, said
        status, page, headers = client.request("GET", path, **client.allowed)
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=UTF-8"
        assert headers["Content-Security-Policy"].startswith(
            "sandbox; default-src 'none'"
        )
        assert b"<img src=x" not in page
        assert (b">bob<" in page) is not anonymous


@pytest.mark.parametrize("student", [HOSTILE[0], HOSTILE[1]])
def test_5_a_retry_is_of_one_also_where_its_name_is_a_pattern_or_an_option(
    client: Client, course: Course, student: str
) -> None:
    def written() -> dict[str, int]:
        folders = (course.root / "autograded").glob("*/ps/p.ipynb")
        return {path.parts[-3]: path.stat().st_ino for path in folders}

    before = written()
    client.grade("all", student)
    after = written()
    assert {name for name in after if after[name] != before[name]} == {student}


def test_6_a_changed_test_is_seen_as_stale(client: Client, course: Course) -> None:
    path = course.root / "source" / "ps" / "p.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[3].source += "\n# One more line."
    nbformat.write(nb, path)
    course.nbgrader("generate_assignment ps --force")
    answer(course, "cleo", f"{RIGHT} + 0")
    assert client.order("survey", {})[0] == 202
    stale = {"stale": len(ANSWERS) - 1, "not graded": 1}
    client.until(lambda state: counts(state) == stale)
    # Of those that are selected, what is stale: not what is missing.
    state = client.grade("stale", "ada", "cleo")
    assert counts(state) == {**stale, "stale": len(ANSWERS) - 2, "graded": 1}


def test_7_a_batch_in_a_terminal_is_seen_and_can_be_cancelled(
    client: Client, course: Course
) -> None:
    answer(course, "endless", ENDLESS)
    batch = subprocess.Popen(
        [PROGRAM, "autograde", "ps"],
        cwd=course.root,
        env={**BARE, "HOME": str(course.root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with batch:
        state = client.until(
            lambda state: (
                state["batch"] and ["ps", "endless"] in state["batch"]["running"]
            )
        )
        holder = state["batch"]["holder"]
        assert holder["pid"] == batch.pid
        assert holder["command"] == "jaxgrader autograde ps"
        assert holder["mine"]
        status, said = client.order("start", {"what": "all", "submissions": [ONE]})
        assert status == 409, said
        assert "being graded already" in said["message"]
        # Another batch's name stops nothing.
        assert client.order("cancel", {"born": "another"})[0] == 409
        assert client.order("cancel", {"born": holder["born"]})[0] == 202
        # Twice, as from two tabs: it still ends in order.
        assert client.order("cancel", {"born": holder["born"]})[0] in (202, 409)
        _, said = batch.communicate()
    assert batch.returncode == 1
    assert "Stopped: " in said
    state = client.until(over)
    assert client.students()["endless"]["state"] == "not graded"


def test_8_a_killed_batch_is_not_shown_as_running(
    client: Client, course: Course
) -> None:
    body = {"what": "missing", "submissions": [{"assignment": "ps"}]}
    assert client.order("start", body)[0] == 202
    state = client.until(
        lambda state: state["batch"] and ["ps", "endless"] in state["batch"]["running"]
    )
    pid = state["batch"]["holder"]["pid"]
    assert os.getsid(pid) == pid, "it has a session of its own"
    os.kill(pid, signal.SIGKILL)
    client.until(over)
    assert client.students()["endless"]["state"] == "not graded"
    answer(course, "endless", RIGHT)
    client.grade("missing")
    assert client.students()["endless"]["state"] == "graded"


def test_9_who_is_no_batch_of_ours_is_named_and_never_signalled(
    client: Client, course: Course
) -> None:
    # As a server may hold it, which must not be interrupted.
    with Lock(course.root):
        holder = client.until(lambda state: state["batch"])["batch"]["holder"]
        assert holder["pid"] == os.getpid()
        assert not holder["mine"]
        status, said = client.order("cancel", {"born": holder["born"]})
        assert status == 403
        assert f"process {os.getpid()}" in said["message"]
    client.until(over)


def test_9_a_notebook_elsewhere_is_not_offered(
    client: Client, course: Course, tmp_path: Path
) -> None:
    place = course.root / "autograded" / "bob" / "ps" / "p.ipynb"
    (tmp_path / "p.ipynb").write_text("{}")
    place.unlink()
    place.symlink_to(tmp_path / "p.ipynb")
    (notebook,) = client.students()["bob"]["notebooks"]
    assert notebook["path"] is None


def test_the_holder_of_another_host_is_believed(tmp_path: Path) -> None:
    with Lock(tmp_path) as lock:
        text = lock.path.read_text()
    lock.path.write_text(text.replace('"host": "', '"host": "not-'))
    held = Holder.of(tmp_path)
    assert held is not None
    assert not held.mine
