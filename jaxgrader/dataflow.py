"""What the results of a program depend on, and how often its loops turn.

Two walks over the plain values of stablehlo.py. The first goes backwards from the
results and finds the live operations; the second goes forwards over these, counts
them, and reads off each loop's number of turns. Functions are followed at each call,
with the constants that are passed to them, and remembered by these.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from jaxgrader.errors import ProgramError
from jaxgrader.stablehlo import MAX_DEPTH, Block, Module, Op

#: Loops in a program, each counted wherever a call repeats it.
MAX_LOOPS = 10_000

#: Operations in a program, counted in the same way.
MAX_OPERATIONS = 10**9

#: Functions, each counted for every set of constants that is passed to it.
MAX_FUNCTIONS = 10_000

#: Constants, one per argument of a function; None where it is not known.
Constants = tuple[int | None, ...]


@dataclass
class SummaryLoop:
    """A loop: its turns, the operations of its condition and body, the loops there."""

    trip_count: int | None
    operations: "Counter[str]"
    loops: "list[SummaryLoop]"


@dataclass
class Summary:
    """The live operations of a stretch of program.

    loop_count: how many loops there are, those in loops included.
    whole: do all of them compute integers or booleans?
    """

    operations: "Counter[str]" = field(default_factory=Counter)
    loops: list[SummaryLoop] = field(default_factory=list)
    loop_count: int = 0
    whole: bool = True

    def add(self, other: "Summary") -> None:
        self.operations.update(other.operations)
        self.loops += other.loops
        self.loop_count += other.loop_count
        self.whole &= other.whole
        if self.loop_count > MAX_LOOPS:
            raise ProgramError(TOO_MANY_LOOPS)

    def count(self, op: Op) -> None:
        self.operations[op.name] += 1
        self.whole &= op.whole


def summarise(module: Module) -> Summary:
    """Count what the results of `main` depend on."""
    everything = frozenset(range(len(module.main.returns)))
    unknown = (None,) * len(module.main.arguments)
    try:
        summary = _Forwards(module).function("main", everything, unknown)
    except RecursionError:
        raise ProgramError(TOO_DEEP) from None
    if sum(summary.operations.values()) > MAX_OPERATIONS:
        raise ProgramError(TOO_LARGE)
    return summary


class _Place(NamedTuple):
    """Where a value comes from.

    A result of an operation, or the argument of one of its regions, or, where op is
    None, the argument of a function.
    """

    op: Op | None
    position: int
    argument: bool


def _places(block: Block, owner: Op | None = None) -> Iterator[tuple[int, _Place]]:
    for index, value in enumerate(block.arguments):
        yield value, _Place(owner, index, True)
    for op in block.ops:
        for index, value in enumerate(op.results):
            yield value, _Place(op, index, False)
        for inner in op.blocks:
            yield from _places(inner, op)


# Backwards.


@dataclass
class _Live:
    """What some results of a function depend on.

    results: live operation -> the results of it that are used, or the carries of it
        that are, for a loop.
    """

    results: dict[Op, set[int]] = field(default_factory=dict)
    arguments: set[int] = field(default_factory=set)


class _Backwards:
    """Finds live operations, one function at a time."""

    def __init__(self, module: Module) -> None:
        self.functions = module.functions
        self.places = {
            value: place
            for block in module.functions.values()
            for value, place in _places(block)
        }
        self.known: dict[tuple[str, frozenset[int]], _Live] = {}
        self.open: list[str] = []

    def function(self, name: str, wanted: frozenset[int]) -> _Live:
        """Return what the wanted results of a function depend on."""
        if (name, wanted) not in self.known:
            if name in self.open or len(self.open) > MAX_DEPTH:
                raise ProgramError(CALLS_ITSELF)
            self.open.append(name)
            self.known[name, wanted] = self.walk(self.functions[name], wanted)
            self.open.pop()
        return self.known[name, wanted]

    def walk(self, block: Block, wanted: frozenset[int]) -> _Live:
        live, seen = _Live(), set[int]()
        waiting = _picked(block.returns, wanted)
        while waiting:
            value = waiting.pop()
            if value not in seen:
                seen.add(value)
                waiting += self.needed_for(self.places[value], live)
        return live

    def needed_for(self, place: _Place, live: _Live) -> list[int]:
        """Mark a value as live; return the values that it is computed from."""
        if place.op is None:
            live.arguments.add(place.position)
            return []
        op = place.op
        new = op not in live.results
        live.results.setdefault(op, set()).add(place.position)
        if op.name == "while":
            condition = list(op.blocks[0].returns) if new else []
            return [
                *condition,
                op.operands[place.position],
                op.blocks[1].returns[place.position],
            ]
        if op.name in ("case", "if") and not place.argument:
            branches = [block.returns[place.position] for block in op.blocks]
            return [op.operands[0], *branches]
        if op.callee is not None:
            needs = self.function(op.callee, frozenset([place.position])).arguments
            return _picked(op.operands, needs)
        return [*op.operands, *(v for block in op.blocks for v in block.returns)]


# Forwards.


class _Forwards:
    """Counts live operations, and knows the constants that reach them."""

    def __init__(self, module: Module) -> None:
        self.functions = module.functions
        self.backwards = _Backwards(module)
        self.places = self.backwards.places
        self.known: dict[tuple[str, frozenset[int], Constants], Summary] = {}
        self.constants: dict[tuple[int, Constants], int | None] = {}

    def function(
        self, name: str, wanted: frozenset[int], constants: Constants
    ) -> Summary:
        """Summarise what the wanted results of a function depend on."""
        key = name, wanted, constants
        if key not in self.known:
            if len(self.known) > MAX_FUNCTIONS:
                raise ProgramError(TOO_LARGE)
            live = self.backwards.function(name, wanted)
            block = self.functions[name]
            self.known[key] = self.block(block, live, constants)
        return self.known[key]

    def block(self, block: Block, live: _Live, constants: Constants) -> Summary:
        summary = Summary()
        for op in block.ops:
            if op in live.results:
                summary.add(self.op(op, live, constants))
        return summary

    def op(self, op: Op, live: _Live, constants: Constants) -> Summary:
        if op.callee is not None:
            passed = tuple(self.constant(v, constants) for v in op.operands)
            return self.function(op.callee, frozenset(live.results[op]), passed)
        summary = Summary()
        if op.name == "constant":
            return summary
        for block in op.blocks:
            summary.add(self.block(block, live, constants))
        if op.name == "while":
            return self.loop(op, summary, constants)
        summary.count(op)
        return summary

    def loop(self, op: Op, turn: Summary, constants: Constants) -> Summary:
        """Make a loop of one turn's summary, unless it only mixes random bits."""
        if turn.whole and turn.operations.keys() >= MIXES_BITS:
            return turn
        loop = SummaryLoop(self.trip_count(op, constants), turn.operations, turn.loops)
        count = 1 + turn.loop_count
        return Summary(Counter(turn.operations), [loop], count, turn.whole)

    # How often a loop turns.

    def trip_count(self, op: Op, constants: Constants) -> int | None:
        """Return a loop's turns, if its condition compares a counter with a constant.

        A counter is a carry to which the body adds a constant.
        """
        test = self.places[op.blocks[0].returns[0]]
        if test.op is None or test.argument or test.op.name != "compare":
            return None
        direction = str(test.op.direction)
        left, right = test.op.operands
        found = self.counted(op, left, direction, right, constants)
        if found is None:
            found = self.counted(op, right, MIRRORED[direction], left, constants)
        return found

    def counted(
        self, op: Op, counter: int, direction: str, limit: int, constants: Constants
    ) -> int | None:
        place = self.places[counter]
        if place.op is not op or not place.argument:
            return None
        start = self.constant(op.operands[place.position], constants)
        step = self.step(op, place.position, constants)
        stop = self.constant(limit, constants)
        if start is None or step is None or stop is None:
            return None
        return turns(start, direction, stop, step)

    def step(self, op: Op, index: int, constants: Constants) -> int | None:
        """Return what the body adds to a carry in each turn."""
        body = op.blocks[1]
        new = self.places[body.returns[index]]
        if new.op is None or new.argument or new.op.name not in ("add", "subtract"):
            return None
        left, right = new.op.operands
        if left == body.arguments[index]:
            step = self.constant(right, constants)
            return -step if step is not None and new.op.name == "subtract" else step
        if right == body.arguments[index] and new.op.name == "add":
            return self.constant(left, constants)
        return None

    def constant(self, value: int, constants: Constants, depth: int = 0) -> int | None:
        """Return the integer that a value always is; None where it is not known."""
        key = value, constants
        if key not in self.constants:
            self.constants[key] = None
            if depth < MAX_DEPTH:
                place = self.places[value]
                self.constants[key] = self.evaluate(place, constants, depth + 1)
        return self.constants[key]

    def evaluate(self, place: _Place, constants: Constants, depth: int) -> int | None:
        op, position = place.op, place.position
        if op is None:
            return constants[position]
        if op.name == "while":
            same = op.blocks[1].returns[position] == op.blocks[1].arguments[position]
            start = op.operands[position]
            return self.constant(start, constants, depth) if same else None
        if op.name == "constant":
            return op.constant
        if place.argument or (op.name not in FOLDED and op.callee is None):
            return None
        operands = [self.constant(v, constants, depth) for v in op.operands]
        if op.callee is not None:
            returns = self.functions[op.callee].returns
            return self.constant(returns[position], tuple(operands), depth)
        known = [value for value in operands if value is not None]
        complete = op.whole and len(known) == len(operands)
        return FOLDED[op.name](known) if complete else None


def turns(start: int, direction: str, stop: int, step: int) -> int | None:
    """Return the turns of `while counter <direction> stop: counter += step`.

    None where the loop does not end, or where one cannot say.
    """
    if direction in ("GT", "GE"):
        return turns(-start, MIRRORED[direction], -stop, -step)
    if direction == "NE":
        whole = step != 0 and (stop - start) % step == 0
        return (stop - start) // step if whole and (stop - start) // step >= 0 else None
    if direction not in ("LT", "LE"):
        return None
    last = stop if direction == "LT" else stop + 1
    if start >= last:
        return 0
    return -((start - last) // step) if step > 0 else None


def _picked(values: Sequence[int], indices: Iterable[int]) -> list[int]:
    return [values[index] for index in indices]


#: The same comparison with its sides swapped, or with both of them negated.
MIRRORED = {"LT": "GT", "LE": "GE", "GT": "LT", "GE": "LE", "EQ": "EQ", "NE": "NE"}

#: What JAX does to the bounds of a loop on their way to it.
FOLDED: Mapping[str, Callable[[list[int]], int]] = {
    "add": sum,
    "broadcast_in_dim": min,
    "convert": min,
    "maximum": max,
    "minimum": min,
    "multiply": prod,
    "reshape": min,
    "subtract": lambda values: values[0] - values[1],
}

#: The operations on whole numbers that each round of threefry has.
MIXES_BITS = frozenset({"xor", "shift_left", "shift_right_logical"})

CALLS_ITSELF = "the program has a function that calls itself; no JAX program does"
TOO_DEEP = "the program has loops, branches and calls nested too deeply to be read"
TOO_MANY_LOOPS = f"the program has more than {MAX_LOOPS} loops: write fewer"
TOO_LARGE = (
    f"the program has more than {MAX_OPERATIONS} operations, or calls functions in "
    f"more than {MAX_FUNCTIONS} ways. Write loops with jax.lax"
)
