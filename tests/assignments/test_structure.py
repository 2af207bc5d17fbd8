"""The point of each lesson, checked on the program that JAX traces.

Right numbers from a loop that Python unrolls, or from NumPy, are right numbers: the
tests of values give their points. What is tested here tells them from the answer that
the lesson teaches, whatever transform of JAX or Flax it is written with.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from demo.students import COMPOSED, FORI, LAX, NESTED, SCAN, VARIANTS
from jaxgrader.testing import (
    assert_constant_trace,
    assert_loop,
    assert_no_unrolling,
    assert_vectorized,
)
from tests.traced import answer

Answer = Callable[..., Any]


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def check_fori_loop(answer: Answer) -> None:
    def call(T: int) -> tuple[Any, ...]:
        return 3, zeros(11), 11, T

    assert_no_unrolling(answer, call, over=(3, 12), name="T")
    assert_loop(answer, *call(9), trip_count=9, containing=("dot_general", "tanh"))


def check_scan(answer: Answer) -> None:
    def call(T: int) -> tuple[Any, ...]:
        return 3, zeros(14, 4), 6, T

    assert_no_unrolling(answer, call, over=(3, 12), name="T")
    assert_loop(answer, *call(9), trip_count=9, containing=("dot_general", "tanh"))


def check_lax_scan(answer: Answer) -> None:
    def call(T: int) -> tuple[Any, ...]:
        return 3, zeros(11), 11, T

    assert_no_unrolling(answer, call, over=(3, 12), name="T")
    turns = 9, 10  # the first step may be the loop's
    assert_loop(answer, *call(9), trip_count=turns, containing=("dot_general", "tanh"))


def check_composed(answer: Answer) -> None:
    def deep(N: int) -> tuple[Any, ...]:
        return 3, zeros(2, 10), N, 10

    def wide(B: int) -> tuple[Any, ...]:
        return 3, zeros(B, 10), 5, 10

    assert_no_unrolling(answer, deep, over=(3, 12), name="num_layers")
    assert_loop(answer, *deep(9), trip_count=9, containing=("dot_general", "maximum"))
    assert_vectorized(answer, wide, over=(2, 8))


def check_nested(answer: Answer) -> None:
    def call(hidden: int) -> tuple[Any, ...]:
        return 3, zeros(7), hidden

    assert_constant_trace(answer, call, over=(3, 12), name="hidden")


CHECKS = {
    FORI: check_fori_loop,
    SCAN: check_scan,
    LAX: check_lax_scan,
    COMPOSED: check_composed,
    NESTED: check_nested,
}

UNROLLED = "the loop was unrolled in Python"
NUMPY = "Use jnp instead of np"

#: Right numbers, but not from the program that the lesson is about -> what is said.
MISSES = {
    (FORI, "unrolled_python_loop"): UNROLLED,
    (FORI, "untraced_numpy"): NUMPY,
    (SCAN, "unrolled_python_loop"): UNROLLED,
    (SCAN, "untraced_numpy"): NUMPY,
    (LAX, "unrolled_python_loop"): UNROLLED,
    (LAX, "untraced_numpy"): NUMPY,
    (COMPOSED, "unrolled_separate_layers"): UNROLLED,
    (COMPOSED, "untraced_numpy_loops"): NUMPY,
    (NESTED, "untraced_get_value_numpy"): NUMPY,
}

RIGHT = [
    (assignment, path.stem)
    for assignment in CHECKS
    for path in sorted((VARIANTS / assignment).glob("right_*.py"))
]


@pytest.mark.filterwarnings("ignore:'.value' access is now deprecated")
@pytest.mark.parametrize(("assignment", "name"), RIGHT)
def test_the_lesson_was_learned(assignment: str, name: str) -> None:
    CHECKS[assignment](answer(assignment, name))


@pytest.mark.filterwarnings("ignore:'.value' access is now deprecated")
@pytest.mark.parametrize(("assignment", "name"), MISSES)
def test_right_numbers_of_another_program(assignment: str, name: str) -> None:
    with pytest.raises(AssertionError, match=MISSES[assignment, name]):
        CHECKS[assignment](answer(assignment, name))
