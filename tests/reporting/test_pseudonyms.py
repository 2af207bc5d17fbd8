"""Nobody is known by a pseudonym, nor by what is left of a sentence."""

import stat
from pathlib import Path

import pytest

from jaxgrader.errors import GraderError
from jaxgrader.reporting.pseudonyms import (
    KEY,
    Redactor,
    kind_of,
    pseudonym,
    read_key,
)


def test_a_course_keeps_its_key(tmp_path: Path) -> None:
    key = read_key(tmp_path)
    assert read_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.mkdir()
    assert read_key(other) != key
    assert pseudonym(key, "ada") == pseudonym(key, "ada")
    assert pseudonym(key, "ada") != pseudonym(read_key(other), "ada")
    names = {pseudonym(key, f"s{number}") for number in range(5000)}
    assert len(names) == 5000


def test_a_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / KEY).parent.mkdir()
    (tmp_path / KEY).write_text("")
    with pytest.raises(GraderError, match="too short"):
        read_key(tmp_path)
    (tmp_path / KEY).unlink()
    (tmp_path / KEY).mkdir()
    with pytest.raises(GraderError, match="cannot be used"):
        read_key(tmp_path)


PEOPLE = [
    ("ada17", "Ada", "Lovelace", "ada.l@example.org"),
    ("li", "小龍", "李", None),
    ("x", "Ängström", "", "ÄNG@example.org"),
]
REDACTOR = Redactor(fact for row in PEOPLE for fact in row)


@pytest.mark.parametrize(
    "text",
    [
        "no such file: ada17.npy",
        "Hello, ADA!",
        "I am lovelace",
        "xlovelacey",
        "mail ada.l@example.org",
        "mail ADA.L@EXAMPLE.ORG",
        "我是李小龍。",
        "ÄNGSTRÖM",
        "a\u0308ngstro\u0308m",
        "".join(chr(ord(letter) + 0xFEE0) for letter in "lovelace"),
        "by li",
    ],
)
def test_names_are_left_out(text: str) -> None:
    told = REDACTOR.redact(text).casefold()
    for name in ("ada", "lovelace", "李", "小龍", "ängström", "example", " li"):
        assert name not in told
    assert "…" in told


def test_other_words_stay() -> None:
    text = "Linear algebra: your program adapts; AssertionError"
    assert REDACTOR.redact(text) == text


def test_what_is_told_of_a_rare_error() -> None:
    assert kind_of("ValueError: I am Ada") == "ValueError"
    assert kind_of("StudentError: KeyError: 'ada'") == "KeyError"
    assert kind_of("AdaError: x") == "an error of another kind"
    assert kind_of("ada: x") == "an error of another kind"
    assert kind_of("") == "an error of another kind"
