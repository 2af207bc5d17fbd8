"""The class report: one page of HTML that needs nothing but itself.

Guarantees: no script, no request, and a content policy that allows neither: what
students wrote is text, whatever it is. With `anonymous`, no id, name or address of the
class is in it, and no error message that fewer than `CROWD` students share.
"""

from pathlib import Path

from jaxgrader.drawings import page
from jaxgrader.reporting.contents import Voice, contents
from jaxgrader.reporting.mistakes import Mistake
from jaxgrader.reporting.pseudonyms import (
    CROWD,
    Redactor,
    kind_of,
    pseudonym,
    read_key,
)
from jaxgrader.reporting.records import Records


def render(records: Records, voice: Voice, course: str, made: str) -> str:
    """Return the report on some records as a page."""
    return page(
        Path(__file__).with_name("templates"),
        "report",
        report=contents(records, voice, course, made),
        crowd=CROWD,
    )


def by_name(records: Records) -> Voice:
    """Speak of students by their names."""
    names = {}
    columns = ("student_id", "first_name", "last_name")
    for student, first, last in records.submissions.select(columns).unique().rows():
        full = " ".join(filter(None, (first, last)))
        names[student] = f"{full} ({student})" if full else student
    return Voice(name=names.__getitem__)


def by_pseudonym(records: Records, course: Path) -> Voice:
    """Speak of students so that the class does not learn who they are.

    Raises:
        GraderError: if the course's key cannot be used.
    """
    key = read_key(course)
    columns = ("student_id", "first_name", "last_name", "email")
    people = records.submissions.select(columns).unique()
    redactor = Redactor(fact for row in people.rows() for fact in row)

    def tell(found: list[Mistake]) -> list[Mistake]:
        told: dict[tuple[str, str], Mistake] = {}
        for each in found:
            text = redactor.redact(each.pattern)
            if each.count < CROWD:
                text = kind_of(each.example)
            group = told.setdefault(
                (each.outcome, text), Mistake(each.outcome, text, text)
            )
            group.students |= each.students
            group.grade_ids |= each.grade_ids
        return sorted(told.values(), key=lambda each: (-each.count, each.pattern))

    return Voice(True, lambda student: pseudonym(key, student), tell)
