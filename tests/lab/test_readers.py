"""Eight people look at the formgrader's pages while a batch writes the gradebook."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.conftest import DOUBLE, Course
from tests.lab.conftest import RIGHT, answer, over, served

#: What its pages read: all submissions, one student's, grades and comments.
READS = (
    "assignments",
    "submissions/ps",
    "notebooks/ps",
    "submitted_notebooks/ps/p",
    "students",
    "student_submissions/s0",
    "student_notebook_submissions/s0/ps",
    "assignment/ps",
)


def test_the_formgrader_is_read_while_a_batch_writes(
    new_course: Callable[[], Course], tmp_path: Path
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    (done,) = course.nbgrader("generate_assignment ps")
    assert done.status == 0, done.log
    students = [f"s{number}" for number in range(8)]
    for student in students:
        answer(course, student, RIGHT)
    with served(course.root, tmp_path / "staff") as client:
        client.until(lambda state: state["surveyed"])
        assert client.grade("missing", "s0")["assignments"][0]["counts"]["graded"] == 1
        statuses: Counter[tuple[str, int]] = Counter()
        ended = threading.Event()

        def read(name: str) -> None:
            while not ended.is_set():
                path = f"/formgrader/api/{name}"
                status, _, _ = client.request("GET", path, **client.allowed)
                statuses[name, status] += 1

        readers = [threading.Thread(target=read, args=[name]) for name in READS]
        for reader in readers:
            reader.start()
        try:
            body = {"what": "all", "submissions": [{"assignment": "ps"}]}
            assert client.order("start", body)[0] == 202
            state = client.until(over)
        finally:
            ended.set()
            for reader in readers:
                reader.join()
    assert {status for _, status in statuses} == {200}, statuses
    assert {name for name, _ in statuses} == set(READS)
    assert state["assignments"][0]["counts"]["graded"] == len(students)
