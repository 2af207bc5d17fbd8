"""source/ and release/: well-formed, in step, and nothing given away."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.notebooknode import NotebookNode

from demo.students import NOTEBOOKS
from tests.conftest import CLONE, Course

PATHS = [f"{a}/{name}.ipynb" for a, name in NOTEBOOKS.items()]
SECRET = re.compile(
    r"### BEGIN (?P<what>SOLUTION|HIDDEN TESTS)$(?P<text>.*?)### END (?P=what)$",
    re.MULTILINE | re.DOTALL,
)


def read(folder: str, path: str) -> NotebookNode:
    nb: NotebookNode = nbformat.read(CLONE / folder / path, as_version=4)
    return nb


def test_every_assignment_is_there() -> None:
    for folder in ("source", "release"):
        found = {
            str(p.relative_to(CLONE / folder)) for p in (CLONE / folder).glob("*/*")
        }
        assert found == set(PATHS)


@pytest.mark.parametrize("folder", ["source", "release"])
@pytest.mark.parametrize("path", PATHS)
def test_notebook_opens_anywhere(folder: str, path: str) -> None:
    nb = read(folder, path)
    nbformat.validate(nb)
    assert nb.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in nb.cells]
    assert len(set(ids)) == len(ids)
    assert not any(re.fullmatch(r"[0-9a-f]{8,}", i) for i in ids), (
        "ids say what is there"
    )
    for cell in nb.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    text = (CLONE / folder / path).read_text()
    assert not re.search(r"/(?:home|root|work|Users|tmp)/", text)


@pytest.mark.parametrize("path", PATHS)
def test_tests_are_worth_ten_points(path: str) -> None:
    points = [
        cell.metadata.nbgrader.points
        for cell in read("source", path).cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    assert sum(points) == 10
    assert len(points) == 5


@pytest.mark.parametrize("path", PATHS)
def test_release_gives_nothing_away(path: str) -> None:
    source = "\n".join(cell.source for cell in read("source", path).cells)
    regions = [match["text"] for match in SECRET.finditer(source)]
    assert len(regions) >= 4, "a solution and three hidden tests"
    public = {line.strip() for line in SECRET.sub("", source).splitlines()}
    secret = {line.strip() for text in regions for line in text.splitlines()} - public
    assert len(secret) > 30
    release = "\n".join(cell.source for cell in read("release", path).cells)
    assert not secret & {line.strip() for line in release.splitlines()}
    assert "HIDDEN TESTS" not in release
    assert "BEGIN SOLUTION" not in release
    assert "raise NotImplementedError()" in release


@pytest.fixture(scope="module")
def regenerated(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    (course.root / "source").symlink_to(CLONE / "source")
    course.nbgrader(*(f"generate_assignment {a}" for a in NOTEBOOKS))
    return course


@pytest.mark.parametrize("path", PATHS)
def test_release_is_what_nbgrader_generates(regenerated: Course, path: str) -> None:
    expected = (regenerated.root / "release" / path).read_text()
    assert (CLONE / "release" / path).read_text() == expected, "run `make release`"


def test_no_student_data_in_the_clone() -> None:
    kept = [p.name for p in (CLONE / "autograded").iterdir() if p.name == "README.md"]
    assert kept == ["README.md"]
    ignored = Path(CLONE / ".gitignore").read_text().split()
    for name in (
        "/submitted/",
        "/feedback/",
        "/exchange/",
        "/gradebook.db*",
        "/grades.csv",
    ):
        assert name in ignored
