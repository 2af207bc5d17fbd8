"""Sentences that differ in what does not matter are one mistake."""

import pytest

from jaxgrader.reporting.mistakes import Verdict, find_mistakes, pattern_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("got 1.5, expected 2", "got -3e-07, expected 17"),
        ("has shape (3, 4)", "has shape (5, 6)"),
        ("has shape (3, 4)", "has shape (5, 6, 7)"),
        ("got nan", "got 1"),
        ("<Foo object at 0x7f001122>", "<Foo object at 0x7f99aabb>"),
        (
            "FileNotFoundError: /home/ada/data.npy",
            "FileNotFoundError: /home/bob/x/data.npy",
        ),
        ("no such key 5f0c1e2a-9b7d", "no such key 0123456789ab"),
        ("ValueError: no\n\nin your code:\n  x = 1", "ValueError: no"),
        (
            "JAX cannot trace your function: line 3 in `f`, `a = 1`, needs",
            "JAX cannot trace your function: line 70 in `g`, `b = 2`, needs",
        ),
        ("wrong\nsecond line\nthird 1", "wrong\nsecond line\nanother"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert pattern_of(one) == pattern_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("has dtype float32", "has dtype float64"),
        ("NameError: name 'x' is not defined", "NameError: name 'y' is not defined"),
        ("first", "second"),
        ("ValueError: no", "TypeError: no"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert pattern_of(one) != pattern_of(other)


def test_a_mistake_has_all_of_its_students_once() -> None:
    verdicts = [
        Verdict(f"s{n % 40}", f"test_{n % 3}", "failed", f"got {n}, expected 1")
        for n in range(120)
    ]
    verdicts.append(Verdict("s1", "test_0", "error", "got 5, expected 1"))
    most, least = find_mistakes(verdicts)
    assert (most.count, most.outcome) == (40, "failed")
    assert set(most.grade_ids) == {"test_0", "test_1", "test_2"}
    assert most.example == "got 0, expected 1"
    assert (least.count, list(least.students)) == (1, ["s1"])


def test_a_huge_message_is_cut_first() -> None:
    """No pattern may take more than linear time on what a student wrote."""
    for text in ("/a" * 10**6, "1" * 10**6, "0x" * 10**6, "`" * 10**6, "# " * 10**6):
        assert len(pattern_of(text)) <= 300
