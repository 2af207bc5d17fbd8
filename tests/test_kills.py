"""Processes of a batch killed at random points: nothing is lost."""

from tests.kills import fight


def test_killed_batches_end_as_others_do() -> None:
    assert len(fight(kills=6, seed=3, students=8)) == 6
