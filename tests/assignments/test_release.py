"""source/ and release/: well-formed, in step, and nothing given away."""

import re
import subprocess
from collections.abc import Callable

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
    assert len(points) == 6


#: Lines of Python that any module, loop or test has, whoever writes it.
ANYBODYS = re.compile(
    r"""\W* | \w+ | (for|while|if|return|break|pass)\b.{0,12} | @nn\.compact | \w+:\ int
    | def\ __(call|init)__\(self,\ .*\):
    """,
    re.VERBOSE,
)


def lines(text: str) -> set[str]:
    """Return the lines of `text` that say something."""
    stripped = {line.strip() for line in text.splitlines()}
    return {line for line in stripped if not ANYBODYS.fullmatch(line)}


@pytest.mark.parametrize("path", PATHS)
def test_release_gives_nothing_away(path: str) -> None:
    cells = [cell.source for cell in read("source", path).cells]
    secret: dict[str, set[str]] = {"SOLUTION": set(), "HIDDEN TESTS": set()}
    for match in SECRET.finditer("\n".join(cells)):
        secret[match["what"]] |= lines(match["text"])
    assert len(secret["SOLUTION"]) >= 5
    assert len(secret["HIDDEN TESTS"]) >= 40
    # A hidden test checks shape and type in the words of the visible ones.
    visible = {line for cell in cells if "HIDDEN" not in cell for line in lines(cell)}
    secret["HIDDEN TESTS"] -= visible
    released = read("release", path).cells
    public = {line for cell in released for line in lines(cell.source)}
    assert not public & (secret["SOLUTION"] | secret["HIDDEN TESTS"])
    text = "\n".join(cell.source for cell in released)
    assert "HIDDEN TESTS" not in text
    assert "BEGIN SOLUTION" not in text
    assert text.count("raise NotImplementedError()") == 1


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


def test_no_student_data_in_git() -> None:
    git = ["git", "-C", str(CLONE), "ls-files"]
    tracked = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    data = re.compile(r"(submitted|feedback|exchange)/|autograded/.+/|grade(s|book)\.")
    assert not [path for path in tracked.splitlines() if data.match(path)]
    git = ["git", "-C", str(CLONE), "check-ignore", "--stdin"]
    made = ["submitted/a/b", "feedback/a", "exchange/a", "gradebook.db", "grades.csv"]
    made += ["autograded/someone/ps/p.ipynb", *(f"{a}/x" for a in NOTEBOOKS)]
    ignored = subprocess.run(
        git, input="\n".join(made), capture_output=True, text=True, check=True
    )
    assert ignored.stdout.splitlines() == made
