"""The formgrader's autograde button: a batch of one, and a server that answers."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jaxgrader.lab.processes import outcome
from tests.conftest import Course
from tests.lab.conftest import ENDLESS, HOSTILE, Client, answer


def press(client: Client, student: str) -> dict[str, Any]:
    """Press the button; return what its page is told."""
    path = f"/formgrader/api/submission/ps/{quote(student)}/autograde"
    status, said, _ = client.request("POST", path, "", **client.allowed)
    assert status == 200, said
    told: dict[str, Any] = json.loads(said)
    return told


def test_the_button_grades_what_it_is_pressed_for(
    client: Client, course: Course
) -> None:
    for student in ("ada", HOSTILE[0], HOSTILE[2]):
        told = press(client, student)
        assert told["success"], told["log"]
        assert "Done: 1 graded." in told["log"]
        assert sum(course.scores(student, "ps").values()) == 5  # type: ignore[arg-type]
    assert course.scores("bob", "ps") == {}


def test_what_cannot_be_graded_is_said(client: Client, course: Course) -> None:
    path = course.root / "submitted" / "bob" / "ps" / "p.ipynb"
    path.write_text("{")
    told = press(client, "bob")
    assert not told["success"]
    assert "p.ipynb cannot be read as a notebook" in told["log"]
    told = press(client, "nobody")
    assert not told["success"]
    assert "submitted/ holds no 'ps'" in told["log"]


def test_the_server_answers_while_the_button_grades(
    client: Client, course: Course
) -> None:
    answer(course, "cleo", ENDLESS)
    told: list[dict[str, Any]] = []
    pressed = threading.Thread(target=lambda: told.append(press(client, "cleo")))
    pressed.start()
    state = client.until(lambda state: (state["batch"] or {}).get("running"))
    assert client.request("GET", "/api/status", **client.allowed)[0] == 200
    assert pressed.is_alive()
    assert client.order("cancel", {"born": state["batch"]["holder"]["born"]})[0] == 202
    pressed.join()
    assert not told[0]["success"]
    assert "stopped" in told[0]["log"].lower()


def test_who_has_no_token_presses_nothing(client: Client) -> None:
    path = "/formgrader/api/submission/ps/ada/autograde"
    status, _, _ = client.request("POST", path, "")
    assert status in (302, 403)


def test_a_message_that_looks_like_a_record_is_a_message(tmp_path: Path) -> None:
    log = tmp_path / "batch.log"
    record = {"student": "ada", "state": "graded", "sentence": ""}
    log.write_text(f"before\n{{ no record\n{json.dumps(record)}\n")
    with subprocess.Popen([sys.executable, "-c", ""]) as batch:
        told = outcome(batch, log)
    assert told == {"success": True, "log": "before\n{ no record"}
