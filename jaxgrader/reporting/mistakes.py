"""The same mistake of many students as one.

Two sentences are the same mistake where they differ in numbers, paths, addresses and
identifiers only. What it is not: a judge; a student can write any error message, and
at worst has a mistake of their own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

#: Characters and lines of a sentence that tell mistakes apart.
MOST, LINES = 300, 2
#: Where the student's own lines begin, in a sentence of the checker's.
OWN_LINES = "\nin your code:"
#: A number that is no part of a name: float32 is another dtype than float64.
NUMBER = r"(?<!\w)[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?j?|\b(?:nan|inf)\b"
#: What is left out, in this order. Each is linear in the length of the text.
LEFT_OUT = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\x1b\[[0-9;]*m", ""),
        (r"line \d+ in `[^`\n]*`(?:, `[^`\n]*`,)?", "…"),  # of the student's code
        (r"\b0x[0-9a-fA-F]+\b", "…"),
        (r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\"]+){2,}", "…"),
        (r"\b[0-9a-fA-F]{8}[0-9a-fA-F-]*\b", "…"),
        (NUMBER, "#"),
        (r"#(?:[\s,;]+#)+", "#"),
        (r"\s+", " "),
    )
)


class Verdict(NamedTuple):
    """What a test said of a submission."""

    student: str
    grade_id: str
    outcome: str
    sentence: str


@dataclass
class Mistake:
    """One mistake, an example of it, and the students behind it."""

    outcome: str
    pattern: str
    example: str
    students: dict[str, None] = field(default_factory=dict)
    grade_ids: dict[str, None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.students)


def pattern_of(sentence: str) -> str:
    """Return what a sentence has in common with others of the same mistake."""
    text = sentence.strip()[: 4 * MOST].split(OWN_LINES)[0]
    lines = [line for line in text.splitlines() if line.strip()]
    text = "\n".join(lines[:LINES])[:MOST]
    for said, instead in LEFT_OUT:
        text = said.sub(instead, text)
    return text.strip()


def find_mistakes(verdicts: Iterable[Verdict]) -> list[Mistake]:
    """Return the mistakes of an assignment, those of most students first."""
    patterns: dict[str, str] = {}
    found: dict[tuple[str, str], Mistake] = {}
    for verdict in verdicts:
        sentence = verdict.sentence
        if sentence not in patterns:
            patterns[sentence] = pattern_of(sentence)
        key = verdict.outcome, patterns[sentence]
        if key not in found:
            found[key] = Mistake(*key, sentence)
        found[key].students[verdict.student] = None
        found[key].grade_ids[verdict.grade_id] = None
    return sorted(found.values(), key=lambda each: (-each.count, each.pattern))
