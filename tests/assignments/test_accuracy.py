"""Points do not depend on which hidden inputs were drawn; `make accuracy` tries all."""

import asyncio

import pytest

from demo.students import NOTEBOOKS
from tests.assignments.accuracy import HIDDEN, check, read, redrawn, with_draws


@pytest.mark.parametrize("assignment", NOTEBOOKS)
def test_right_and_wrong_on_three_draws(assignment: str) -> None:
    variants = ["right_idiomatic", "wrong_seed_ignored"]
    if assignment == "nnx-deep-nesting":
        variants[1] = "wrong_seed_hard_coded"
    assert asyncio.run(check(assignment, variants, draws=3)) == []


@pytest.mark.parametrize("assignment", ["nnx-composed-transforms", "nnx-deep-nesting"])
def test_half_precision_is_refused_on_any_draw(assignment: str) -> None:
    """Its error is within the structure tests' tolerance for some inputs."""
    assert asyncio.run(check(assignment, ["wrong_float16"], draws=6)) == []


@pytest.mark.parametrize("assignment", NOTEBOOKS)
def test_every_draw_is_another(assignment: str) -> None:
    cells = with_draws(read(assignment), 3).cells
    tests = [c for c in cells if c.metadata.get("nbgrader", {}).get("points")]
    hidden = [c for c in tests if HIDDEN.search(c.source)]
    assert len(hidden) >= 12
    assert len({c.source for c in hidden}) == len(hidden)
    assert redrawn(hidden[0].source, 0) == hidden[0].source
