"""Programs as a test judges them: operations, loops and their turns, size.

    program = read_program(stablehlo)
    program.size                       # operations, each counted where it stands
    [loop.trip_count for loop in program.all_loops]

How operations are counted:

* as StableHLO names them (`dot_general`, `tanh`, `add`); constants, returns and calls
  are no operations;
* a function is counted at each place that calls it, since JAX writes down once what a
  Python loop calls twice;
* a loop's body is counted once, however many turns the loop makes;
* only what the results depend on is counted. A loop whose outcome nobody uses is not
  there, and neither are carries of a loop that do not reach the results;
* the rounds of JAX's random number generator, loops over whole numbers with shifts and
  xor, are counted as operations and not as a loop of the function.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from jaxgrader.dataflow import Summary, SummaryLoop, summarise
from jaxgrader.errors import ProgramError
from jaxgrader.stablehlo import Module, read_module

#: Bytes of constants that a program may carry.
MAX_CONSTANT_BYTES = 1 << 20

#: Loops within loops that a value from the wire may describe.
MAX_NESTING = 100


@dataclass(frozen=True)
class Loop:
    """A loop of a program.

    trip_count: its number of turns, None where the program does not say.
    operations: name -> how many stand in its body and in its condition, the loops in
        it included.
    loops: the loops in its body.
    """

    trip_count: int | None
    operations: Mapping[str, int]
    loops: "tuple[Loop, ...]" = ()

    @property
    def size(self) -> int:
        """How many operations one turn has."""
        return sum(self.operations.values())

    @property
    def all_loops(self) -> "tuple[Loop, ...]":
        """This loop, and every loop in it."""
        return (self, *_all_loops(self.loops))

    def to_value(self) -> dict[str, object]:
        return {
            "trip_count": self.trip_count,
            "operations": dict(self.operations),
            "loops": tuple(loop.to_value() for loop in self.loops),
        }

    @classmethod
    def from_value(cls, value: object, depth: int = 0) -> Self:
        """Read what `to_value` gave; ProgramError for anything else."""
        fields = _fields(value, {"trip_count", "operations", "loops"})
        return cls(
            trip_count=_trip_count(fields["trip_count"]),
            operations=_operations(fields["operations"]),
            loops=tuple(cls.from_value(v, depth + 1) for v in _loops(fields, depth)),
        )

    def __str__(self) -> str:
        return "\n".join(_loop_lines(self, 0))


@dataclass(frozen=True)
class Program:
    """What JAX traced: see the module's docstring for how it is counted.

    operations: name -> how many, in loops and outside of them.
    loops: the outermost loops, in the order of the program.
    constant_bytes: the size of the arrays that the program carries.
    """

    operations: Mapping[str, int]
    loops: tuple[Loop, ...] = ()
    constant_bytes: int = field(default=0, compare=False)

    @property
    def size(self) -> int:
        """How many operations there are."""
        return sum(self.operations.values())

    @property
    def inside(self) -> Mapping[str, int]:
        """The operations that stand in loops."""
        return _frozen(sum((Counter(v.operations) for v in self.loops), Counter()))

    @property
    def outside(self) -> Mapping[str, int]:
        """The operations that stand in no loop."""
        return _frozen(Counter(self.operations) - Counter(self.inside))

    @property
    def all_loops(self) -> tuple[Loop, ...]:
        """The loops, and every loop in them."""
        return tuple(_all_loops(self.loops))

    def to_value(self) -> dict[str, object]:
        """This program as a tree of dicts, tuples, strings and ints."""
        return {
            "operations": dict(self.operations),
            "loops": tuple(loop.to_value() for loop in self.loops),
            "constant_bytes": self.constant_bytes,
        }

    @classmethod
    def from_value(cls, value: object) -> Self:
        """Read what `to_value` gave; ProgramError for anything else."""
        fields = _fields(value, {"operations", "loops", "constant_bytes"})
        return cls(
            operations=_operations(fields["operations"]),
            loops=tuple(Loop.from_value(v, 1) for v in _loops(fields, 0)),
            constant_bytes=_count(fields["constant_bytes"]),
        )

    def __str__(self) -> str:
        loops = [line for loop in self.loops for line in _loop_lines(loop, 1)]
        title = f"{self.size} operations, {sum(self.inside.values())} of them in loops"
        return "\n".join([title, *loops, _line("outside loops", self.outside, 1)])


def read_program(
    program: str, *, max_constant_bytes: int = MAX_CONSTANT_BYTES
) -> Program:
    """Read a program from StableHLO, as text.

    Raises ProgramError for what cannot be read or is not allowed: see stablehlo.py.
    """
    return describe(read_module(program, max_constant_bytes=max_constant_bytes))


def describe(module: Module) -> Program:
    """Count what the results of a module depend on."""
    summary = summarise(module)
    return Program(
        operations=_frozen(summary.operations),
        loops=_described(summary),
        constant_bytes=module.constant_bytes,
    )


def _described(summary: Summary | SummaryLoop) -> tuple[Loop, ...]:
    return tuple(
        Loop(loop.trip_count, _frozen(loop.operations), _described(loop))
        for loop in summary.loops
    )


def _frozen(counts: Mapping[str, int]) -> Mapping[str, int]:
    return MappingProxyType(dict(sorted(counts.items())))


def _all_loops(loops: tuple[Loop, ...]) -> Iterator[Loop]:
    for loop in loops:
        yield from loop.all_loops


# How a program is shown.


def _loop_lines(loop: Loop, indent: int) -> Iterator[str]:
    yield _line(name_loop(loop), loop.operations, indent)
    for inner in loop.loops:
        yield from _loop_lines(inner, indent + 1)


def name_loop(loop: Loop) -> str:
    """Say how many turns a loop makes."""
    if loop.trip_count is None:
        return "a loop of an unknown number of turns"
    return f"a loop of {loop.trip_count} turn{'s' * (loop.trip_count != 1)}"


def _line(what: str, operations: Mapping[str, int], indent: int) -> str:
    common = sorted(operations.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} {name}" for name, count in common[:6]]
    if len(common) > 6:
        words.append(f"and {sum(count for _, count in common[6:])} more")
    listed = ", ".join(words) or "no operation"
    return f"{'  ' * indent}{what}: {listed}"


# How a value from the wire is checked.


def _fields(value: object, names: set[str]) -> dict[str, object]:
    if type(value) is not dict or set(value) != names:
        raise ProgramError(NOT_A_VALUE)
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ProgramError(NOT_A_VALUE)
    return value


def _trip_count(value: object) -> int | None:
    return None if value is None else _count(value)


def _operations(value: object) -> Mapping[str, int]:
    if type(value) is not dict or not all(type(name) is str for name in value):
        raise ProgramError(NOT_A_VALUE)
    return _frozen({name: _count(count) for name, count in value.items()})


def _loops(fields: dict[str, object], depth: int) -> tuple[object, ...]:
    loops = fields["loops"]
    if not isinstance(loops, tuple | list) or depth > MAX_NESTING:
        raise ProgramError(NOT_A_VALUE)
    return tuple(loops)


NOT_A_VALUE = "this is not the description of a program"
