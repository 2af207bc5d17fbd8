"""Broken notebooks, on the way of a submission: `make fuzz` tries ten thousand.

Each is a released notebook with random damage, to its JSON or to its bytes. It is read
as nbgrader's command reads it, its cells are restored, and a feedback page is made of
it. Two ends are right: a `SubmissionError`, which tells staff what is wrong with the
file, or a notebook whose tests are the author's, whole and in order.
"""

import copy
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput

from jaxgrader.errors import SubmissionError
from jaxgrader.grading.runner import is_test
from jaxgrader.pages import SafeHTML
from jaxgrader.preprocessors import RestoreCells
from jaxgrader.submissions import check_submission
from tests.conftest import Course, nbgrader_cell, notebook_of

NAME = "p"
PROBLEM = notebook_of(
    nbgrader_cell("locked", "imports", "import numpy as np"),
    nbgrader_cell("solution", "answer", "### BEGIN SOLUTION\nf = 1\n### END SOLUTION"),
    nbgrader_cell("test", "first", "assert f == 1", 2),
    nbgrader_cell(
        "test",
        "second",
        "### BEGIN HIDDEN TESTS\nassert f + 1\n### END HIDDEN TESTS",
        3,
    ),
    nbgrader_cell("test", "third", "f / 2", 1),
)

JUNK: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, "", "\x00", "\ud800", "x" * 5000, [], {}, [[]]),
    *({"": {}}, {"a": [None]}, ["x", 1], "markdown", "code", "raw", "first", "../../x"),
    *(float("nan"), float("inf"), 4, 3, 5, 99, {"nbgrader": {}}, {"nbgrader": 7}),
    {"nbgrader": {"grade": True, "grade_id": "first", "points": 1e9}},
    {"nbgrader": {"grade": True, "grade_id": ["first"], "schema_version": 3}},
    {"output_type": "error", "ename": 3, "evalue": None, "traceback": "x"},
    {"output_type": "display_data", "data": {"text/html": ["<script>"], "x": 1}},
    "<script>alert(1)</script>",
    *("$$", "### END HIDDEN TESTS", "%%bash\nexit 1", "def f(:", "```\n" * 50),
]


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return every container in a JSON tree with each key or index in it."""
    found: list[tuple[Any, Any]] = []
    todo = [node]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        found += [(node, key) for key in keys]
        todo += [node[key] for key in keys if isinstance(node[key], dict | list)]
    return found


def damage(nb: Any, rng: random.Random) -> None:
    """Change one thing in a notebook's JSON tree."""
    node, key = rng.choice(places(nb))
    match rng.randrange(6):
        case 0:
            del node[key]
        case 1:
            node[key] = copy.deepcopy(rng.choice(JUNK))
        case 2 if isinstance(node, list):
            node.insert(rng.randrange(len(node) + 1), json.loads(json.dumps(node[key])))
        case 3 if isinstance(node, list):
            rng.shuffle(node)
        case 4 if isinstance(node, dict):
            node[rng.choice([*node, "id", "nbgrader", "tags", "new"])] = node.pop(key)
        case _:
            other, place = rng.choice(places(nb))
            other[place] = json.loads(json.dumps(node[key]))


def broken(released: str, rng: random.Random) -> bytes:
    """Return the bytes of a damaged notebook."""
    nb = json.loads(released)
    for _ in range(rng.choice([1, 1, 2, 3, 6, 12])):
        damage(nb, rng)
        if not nb:
            break
    data = json.dumps(nb).encode()
    if rng.random() < 0.1:
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            data = (
                data[:at]
                + bytes([rng.randrange(256)]) * rng.choice([0, 1, 3])
                + (data[at + 1 :] if rng.random() < 0.9 else b"")
            )
            if not data:
                break
    return data


class Way:
    """The way of a submission through one course."""

    def __init__(self, course: Course) -> None:
        course.write_source("ps", NAME, PROBLEM)
        (done,) = course.nbgrader("generate_assignment ps")
        assert done.status == 0, done.log
        self.released = (course.root / f"release/ps/{NAME}.ipynb").read_text()
        self.folder = course.hand_out("ps", "fuzzy")
        self.resources = {
            "nbgrader": {
                "notebook": NAME,
                "assignment": "ps",
                "student": "fuzzy",
                "db_url": f"sqlite:///{course.root}/gradebook.db",
            },
            "unique_key": NAME,
        }
        steps = (ClearOutput, RestoreCells, CheckCellMetadata)
        self.steps = [step() for step in steps]
        self.page: Callable[..., Any] = SafeHTML().from_notebook_node  # type: ignore[no-untyped-call]

    def sanitize(self, data: bytes) -> NotebookNode:
        """Return what is graded; raise SubmissionError if nothing can be."""
        path = self.folder / f"{NAME}.ipynb"
        path.write_bytes(data)
        check_submission(self.folder)
        nb = nbformat.read(path, as_version=4)
        for step in self.steps:
            nb, _ = step.preprocess(nb, self.resources)
        nbformat.write(nb, path)
        read: NotebookNode = nbformat.read(path, as_version=4)
        return read

    def check(self, nb: NotebookNode) -> None:
        """Raise AssertionError unless the tests are the author's; make the page."""
        tests = [
            (c.metadata.nbgrader.grade_id, c.source) for c in nb.cells if is_test(c)
        ]
        wanted = [(c.metadata.nbgrader.grade_id, c.source) for c in PROBLEM.cells[2:]]
        assert tests == wanted, tests
        assert [c.metadata.nbgrader.points for c in nb.cells if is_test(c)] == [2, 3, 1]
        names = [c.metadata.get("nbgrader", {}).get("grade_id") for c in nb.cells]
        assert len(names) - names.count(None) == len({*names} - {None})
        page, _ = self.page(nb)
        assert "<script>alert" not in page


def fuzz(course: Course, count: int, seed: int) -> Counter[str]:
    """Send broken notebooks on their way; return how many there were by their ends."""
    way = Way(course)
    ends: Counter[str] = Counter()
    for number in range(count):
        data = broken(way.released, random.Random(f"{seed} {number}"))  # noqa: S311
        try:
            way.check(way.sanitize(data))
            ends["graded"] += 1
        except SubmissionError:
            ends["refused"] += 1
        except BaseException:
            Path("artifacts").mkdir(exist_ok=True)
            kept = Path("artifacts") / f"notebook-{seed}-{number}.ipynb"
            kept.write_bytes(data)
            print(f"number {number} of seed {seed} is kept in {kept}")
            raise
    return ends


def main() -> None:
    count, seed = (int(text) for text in (*sys.argv[1:], "10000", "0")[:2])
    with tempfile.TemporaryDirectory() as folder:
        print(dict(fuzz(Course(Path(folder) / "course"), count, seed)))


if __name__ == "__main__":
    main()
