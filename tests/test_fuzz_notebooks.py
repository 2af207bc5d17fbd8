"""A few of the broken notebooks that `make fuzz` makes."""

from collections.abc import Callable

from tests.conftest import Course
from tests.fuzz_notebooks import fuzz


def test_broken_notebooks_are_graded_or_refused(
    new_course: Callable[[], Course],
) -> None:
    ends = fuzz(new_course(), 300, seed=1)
    assert ends.keys() == {"graded", "refused"}
    assert sum(ends.values()) == 300
