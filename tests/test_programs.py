"""Programs: what they show, and how they travel."""

from dataclasses import FrozenInstanceError
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxgrader.errors import ProgramError
from jaxgrader.programs import Loop, Program, read_program
from tests.traced import X, power_loop, stablehlo


def two_loops(x: Any) -> Any:
    inner = jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(power_loop(h, 4)), x)
    return jnp.sin(inner) + jnp.sin(x)


@pytest.fixture(scope="module")
def program() -> Program:
    return read_program(stablehlo(two_loops, X))


class TestProgram:
    def test_its_words(self, program: Program) -> None:
        assert program.operations["tanh"] == 2
        assert program.outside == {"add": 1, "sine": 2}
        assert program.size == sum(program.inside.values()) + 3
        assert [loop.trip_count for loop in program.loops] == [3]
        assert [loop.trip_count for loop in program.all_loops] == [3, 4]
        (outer,) = program.loops
        assert outer.loops[0].operations == {"add": 1, "compare": 1, "tanh": 1}
        assert outer.size == program.size - 3

    def test_it_shows_itself(self, program: Program) -> None:
        assert str(program).splitlines() == [
            "9 operations, 6 of them in loops",
            "  a loop of 3 turns: 2 add, 2 compare, 2 tanh",
            "    a loop of 4 turns: 1 add, 1 compare, 1 tanh",
            "  outside loops: 2 sine, 1 add",
        ]

    def test_it_shows_little_of_much(self) -> None:
        counts = {name: i for i, name in enumerate("abcdefghij", start=1)}
        shown = str(Program(counts, (Loop(None, {}),)))
        assert "  a loop of an unknown number of turns: no operation" in shown
        assert shown.endswith("10 j, 9 i, 8 h, 7 g, 6 f, 5 e, and 10 more")

    def test_it_stays_as_it_is(self, program: Program) -> None:
        with pytest.raises(FrozenInstanceError):
            program.loops = ()  # type: ignore[misc]
        with pytest.raises(TypeError):
            program.operations["tanh"] = 0  # type: ignore[index]

    def test_text_and_bytes_are_one_program(self, program: Program) -> None:
        lowered = jax.jit(two_loops).lower(X)
        assert read_program(lowered.as_text()).all_loops == program.all_loops

    def test_there_may_be_nothing(self) -> None:
        empty = read_program(stablehlo(lambda x: x, X))
        assert empty == Program({})
        assert (empty.size, empty.all_loops) == (0, ())


class TestValue:
    """A program crosses a wire that carries plain values only."""

    def test_there_and_back(self, program: Program) -> None:
        value = program.to_value()
        assert Program.from_value(value) == program
        assert Program.from_value(value).to_value() == value

    def test_it_is_plain(self, program: Program) -> None:
        def check(value: Any) -> None:
            assert type(value) in (dict, tuple, str, int, type(None))
            if type(value) is dict:
                assert all(type(key) is str for key in value)
                value = tuple(value.values())
            for part in value if type(value) is tuple else ():
                check(part)

        check(program.to_value())

    @pytest.mark.parametrize(
        "change",
        [
            {"operations": [1]},
            {"operations": {1: 1}},
            {"operations": {"tanh": "1"}},
            {"operations": {"tanh": True}},
            {"operations": {"tanh": -1}},
            {"operations": {"tanh": 1.0}},
            {"loops": None},
            {"loops": "loops"},
            {"loops": [{"trip_count": 1}]},
            {"loops": [{"trip_count": "1", "operations": {}, "loops": []}]},
            {"loops": [{"trip_count": -1, "operations": {}, "loops": []}]},
            {"constant_bytes": None},
            {"more": 1},
        ],
    )
    def test_malformed(self, change: dict[str, object]) -> None:
        value = Program({"tanh": 1}).to_value() | change
        with pytest.raises(ProgramError, match="not the description of a program"):
            Program.from_value(value)

    @pytest.mark.parametrize("value", [None, 3, "program", [], {}, object()])
    def test_something_else(self, value: object) -> None:
        with pytest.raises(ProgramError, match="not the description of a program"):
            Program.from_value(value)

    def test_nested_without_an_end(self) -> None:
        loops: list[object] = []
        for _ in range(5000):
            loops = [{"trip_count": 1, "operations": {}, "loops": loops}]
        value = {"operations": {}, "loops": loops, "constant_bytes": 0}
        with pytest.raises(ProgramError, match="not the description of a program"):
            Program.from_value(value)
