"""`jaxgrader report`: what is in it, whatever students are called and write."""

import datetime
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from jaxgrader.reporting.pseudonyms import CROWD
from jaxgrader.results import Outcome
from tests.conftest import Course
from tests.reporting.classes import RIGHT, UNROLLED, Answer, Class, Verdicts, wrong
from tests.test_cli import jaxgrader

SCRIPT = "</code></title><script>window.pwned=1</script><img src=x onerror=pwned=1>"
#: (student id, first and last name, address): what may not be in a page without names.
MALLORY = (
    "mallory<b>",
    f"Mal{SCRIPT}",
    'O\'Mallory & "Sons"',
    "mal@evil.example",
)
LATE = datetime.timedelta(days=2)
STUDENTS = 12


def write_class(root: Path) -> Class:
    """Write a class of some mistakes, with one who means harm."""
    a_class = Class(root)
    a_class.add_assignment("ps")
    a_class.add_assignment("second")
    answers = []
    for number in range(STUDENTS):
        name = f"uid{number:03}"
        a_class.add_student(
            name,
            first_name=f"Given{number}",
            last_name=f"Family{number}",
            email=f"{name}@school.example",
        )
        tests: Verdicts = UNROLLED if number < 5 else RIGHT
        if 5 <= number < 9:
            # The same mistake, and the message holds a name.
            tests = wrong(
                f"ValueError: /home/{name}/x.npy of Family5 holds {number}.5",
                Outcome.ERROR,
            )
        late = LATE if number == 0 else datetime.timedelta(hours=-number)
        seconds = 60.0 if number == 3 else 4.0 + number / 10
        memory = 3_000_000_000 if number == 7 else 300_000_000
        answers.append(Answer(name, tests, late, seconds, memory))
        answers.append(Answer(name, RIGHT, assignment="second"))
    student, first, last, email = MALLORY
    a_class.add_student(student, first_name=first, last_name=last, email=email)
    own = f"MalloryError: call 555-0199 {SCRIPT} \u202e\x1b[31m Mal"
    answers.append(Answer(student, wrong(own, Outcome.ERROR)))
    answers.append(
        Answer(student, {}, unreadable=f"{SCRIPT}.ipynb lacks", assignment="second")
    )
    a_class.record(answers)
    return a_class


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    write_class(course.root)
    return course


def report(course: Course, *more: str) -> str:
    done = jaxgrader("report", *more, cwd=course.root)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()
    return (course.root / done.stdout.strip()).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(course: Course) -> str:
    return report(course)


@pytest.fixture(scope="module")
def soup(page: str) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")


def rows(soup: BeautifulSoup, caption: str) -> list[list[str]]:
    """Return the first table with such a caption; people's rows have two cells."""
    found = soup.find("caption", string=re.compile(caption))
    assert found is not None, caption
    table = found.find_parent("table")
    assert table is not None
    lines = table.find_all("tr")[1:]
    return [
        [" ".join(cell.get_text(" ").split()) for cell in line.find_all("td")]
        for line in lines
    ]


def test_scores(soup: BeautifulSoup) -> None:
    # 5 who unrolled a loop have 2 of 3 points (one of them late), 5 have 1, 3 have 3.
    assert rows(soup, "^Scores in ps$") == [
        *([f"{low} % to {low + 10} %", "0"] for low in (0, 10, 20)),
        ["30 % to 40 %", "5"],
        ["40 % to 50 %", "0"],
        ["50 % to 60 %", "1"],
        ["60 % to 70 %", "4"],
        ["70 % to 80 %", "0"],
        ["80 % to 90 %", "0"],
        ["90 % to 100 %", "0"],
        ["100 %", "3"],
    ]


def test_pass_rates_hardest_first(soup: BeautifulSoup) -> None:
    assert rows(soup, "Tests and outcomes in ps") == [
        ["test_structure", "62 %", "8", "5", "0"],
        ["test_values", "62 %", "8", "0", "5"],
    ]


def test_a_mistake_is_one_row_with_those_behind_it(soup: BeautifulSoup) -> None:
    found = rows(soup, "Mistakes of several students in ps")
    most, people, second, others = found
    assert most[:2] == ["5", "failed"]
    assert "the loop was unrolled" in most[2]
    said = "in test_structure The 5 students of row 1 Given0 Family0 (uid000)"
    assert people[1].startswith(said)
    assert second[:2] == ["4", "error"]
    assert second[2].startswith("ValueError: /home/uid005/x.npy")
    assert "Given8 Family8 (uid008)" in others[1]
    (one, who) = rows(soup, "Mistakes of one student each in ps")
    assert one[0] == "1"
    assert "MalloryError" in one[2]
    assert "mallory<b>" in who[1]


def test_who_unrolled_the_loop(soup: BeautifulSoup) -> None:
    unrolled, people, asked = rows(soup, "test_structure found in ps")
    assert unrolled == ["5", "38 %", "a loop unrolled in Python"]
    assert "uid004" in people[1]
    assert asked == ["8", "62 %", "as asked"]


def test_lateness_and_time(soup: BeautifulSoup) -> None:
    times = rows(soup, "When submissions of ps came")
    assert ["12", "92 %", "on the last day"] in times
    assert times[-2:] == [
        ["1", "8 %", "late by more than a day"],
        ["", "Given0 Family0 (uid000)"],
    ]
    assert "The last came 2.0 days late." in soup.get_text()
    assert rows(soup, "Time to grade, ps: 1 above") == [
        ["Given3 Family3 (uid003)", "60.0 s", "2"]
    ]
    assert rows(soup, "Memory of the kernel, ps: 1 above") == [
        ["Given7 Family7 (uid007)", "3000.0 MB", "1"]
    ]


def test_assignments_beside_each_other(soup: BeautifulSoup) -> None:
    found = rows(soup, "beside each other")
    assert [row[:3] for row in found] == [["ps", "13", "13"], ["second", "13", "12"]]


class Elements(HTMLParser):
    """Every tag and attribute of a page, as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.addresses.append(value or "")


@pytest.fixture(scope="module")
def without_names(course: Course) -> str:
    return report(course, "--anonymous", "--to=class.html")


@pytest.mark.parametrize("which", ["page", "without_names"])
def test_nothing_of_a_students_becomes_a_part_of_the_page(
    which: str, request: pytest.FixtureRequest
) -> None:
    found = Elements(request.getfixturevalue(which))
    assert not found.tags & {"script", "img", "iframe", "object", "b", "base", "form"}
    assert not any(name.startswith("on") for name in found.attributes)
    assert "style" not in found.attributes
    assert {re.sub(r"^#.*", "#", address) for address in found.addresses} <= {
        "#",
        "data:,",
    }


def test_no_request_and_no_script_is_allowed(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("img-src") == "data:"
    assert rules.pop("style-src").startswith("'sha256-")
    assert set(rules.values()) == {"'none'"}


def test_without_names_nobody_is_in_it(course: Course, without_names: str) -> None:
    page = without_names
    raw = (course.root / "class.html").read_bytes().lower()
    facts = [f"{kind}{n}" for n in range(STUDENTS) for kind in ("given", "family")]
    facts += [f"uid{n:03}" for n in range(STUDENTS)]
    facts += [
        "school.example",
        *MALLORY,
        "mallory",
        "555-0199",
        "pwned",
        "evil",
        "/home",
    ]
    for fact in facts:
        assert fact.lower().encode() not in raw, fact
    # What a crowd shares is told, without what differs.
    soup = BeautifulSoup(page, "html.parser")
    most, people, second, _ = rows(soup, "Mistakes of several students in ps")
    assert "the loop was unrolled" in most[2]
    assert second[2] == "ValueError: … of … holds #"
    assert int(second[0]) >= CROWD
    codes = re.findall(r"\b[A-Z2-7]{4}-[A-Z2-7]{4}\b", people[1])
    assert len(set(codes)) == 5
    again = report(course, "--anonymous", "--to=again.html")
    assert re.sub("Made .*", "", again) == re.sub("Made .*", "", page)


def test_one_assignment(course: Course) -> None:
    page = report(course, "second", "--to=one.html")
    assert '<h2 id="a1" tabindex="-1">second</h2>' in page
    assert "beside each other" not in page


def test_a_course_before_anything_was_handed_in(
    new_course: Callable[[], Course],
) -> None:
    course = new_course()
    a_class = Class(course.root)
    a_class.add_assignment("ps")
    assert "0 of 0" in report(course)
    a_class.add_student("ada")
    assert "0 of 1" in report(course)


def test_an_unknown_assignment(course: Course) -> None:
    done = jaxgrader("report", "nothing", cwd=course.root)
    assert done.returncode == 1
    assert "no assignment nothing" in done.stderr
