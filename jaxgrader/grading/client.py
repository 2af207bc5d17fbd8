"""The trusted end of the wire: what a test cell means by the student's names.

What it is: code that runs in the checker's process. It gives test cells remote
functions, times the student's answers, and tells the grader what became of each cell.
What it is not: anything that believes what arrives. It decodes arrays and numbers
within bounds, and whatever goes wrong is a `StudentError` in the test.

Guarantees: nothing but plain values, NumPy and JAX arrays comes out of a remote
function. Assumes that nobody but the instructor's code shares this process.
"""

import ast
import builtins
import contextlib
import math
import numbers
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxgrader.comparisons import compared_in
from jaxgrader.errors import ProgramError
from jaxgrader.grading import wire
from jaxgrader.grading.inspections import Inspections, NoInspector
from jaxgrader.grading.meeting import reach
from jaxgrader.kernel import wire as control
from jaxgrader.programs import Program


class StudentError(Exception):
    """The student's code raised, or did not answer as a function of arrays does.

    Where it raised a built-in exception, the error in the test is of that type, too:
    ``except ValueError`` in a test works as it does in the student's own notebook.
    """

    #: How the grader counts it: one of the values of `Outcome`.
    outcome = "error"


class StudentTimeout(StudentError):
    """The student's code took longer than a test cell may wait for it."""

    outcome = "timeout"


class StudentGone(StudentError):
    """The student's kernel closed the connection: it died, or broke the rules."""

    outcome = "crashed"


class Session:
    """This process's part in one grading slot."""

    def __init__(self, connection: socket.socket, shell: Any) -> None:
        self.control = connection
        self.shell = shell
        #: The wire to the student's process while a test runs.
        self.wire: socket.socket | None = None
        self.inspections = Inspections(lambda: self.need("inspector"))
        #: Why there is no wire any more, for the calls that follow.
        self.lost: type[StudentError] | None = None
        #: Seconds that the student's code has left in this test.
        self.left = math.inf
        self.asked = False
        self.first_error: StudentError | None = None
        self.values: tuple[str, ...] = ()
        #: The cell that runs, for IPython: a magic runs what it holds as another,
        #: and goes on after an error in that one.
        self.cell: Any = None
        self.inner_error: BaseException | None = None

    def reset(self) -> None:
        """Forget everything of the last submission."""
        self.shell.reset(new_session=True)
        self.values, self.cell = (), None
        self.inspections.close()
        jax.config.update("jax_enable_x64", False)

    def begin(self, info: Any) -> None:
        """Called by IPython before each cell: hear from the grader what it is about."""
        if self.cell is None:
            self.cell, self.inner_error = info, None
            message = control.receive(self.control) or {"seconds": None}
            self.open(message["seconds"])

    def open(self, seconds: float | None) -> None:
        """A test is about to run; the student's code has `seconds` in all."""
        self.close()
        self.left = seconds or math.inf
        self.lost, self.asked, self.first_error = None, False, None
        for name in self.values:
            self.fetch(name)
        # The test itself has asked for nothing yet.
        self.asked, self.first_error = False, None

    def close(self) -> None:
        """The test is over: the student's end sees the connection close."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def need(self, what: str) -> socket.socket | None:
        """Ask the grader for a connection; None where there is none to have."""
        control.send(self.control, {"event": "need", "what": what})
        _, descriptors = control.receive_request(self.control)
        if not descriptors:
            return None
        return socket.socket(fileno=descriptors[0])

    def ask(self, kind: str, body: dict[str, Any]) -> Any:
        """Send a request to the student's process, and return or raise its answer."""
        self.asked = True
        try:
            return self.exchange(kind, body)
        except StudentError as error:
            self.first_error = self.first_error or error
            raise

    def exchange(self, kind: str, body: dict[str, Any]) -> Any:
        name = body["name"]
        if self.lost is not None:
            raise self.lost(AGAIN.format(name=name))
        if self.wire is None and (connection := self.need("student")) is not None:
            self.wire = connection
        if self.wire is None:
            raise self.lose(StudentGone, GONE.format(name=name))
        started = time.monotonic()
        deadline = started + self.left if self.left < math.inf else None
        try:
            try:
                wire.send(self.wire, kind, body, deadline)
            except wire.Refused as error:
                what = ARGUMENT.format(name=name, path=error.path, why=error.why)
                raise TypeError(what) from None
            answer, value = wire.receive(self.wire, deadline)
        except wire.Late:
            raise self.lose(StudentTimeout, LATE.format(name=name)) from None
        except wire.Closed:
            raise self.lose(StudentGone, GONE.format(name=name)) from None
        except wire.WireError as error:
            why = MALFORMED.format(name=name, why=error)
            raise self.lose(StudentGone, why) from None
        finally:
            self.left -= time.monotonic() - started
        return self.unpack(name, answer, value)

    def lose(self, kind: type[StudentError], sentence: str) -> StudentError:
        """Give the student's process up for the rest of this test."""
        self.close()
        self.lost = kind
        return kind(sentence)

    def unpack(self, name: str, answer: str, value: Any) -> Any:
        """Turn an answer into a value, or into the error that it tells of."""
        if answer == "value":
            return value
        if answer == "callable":
            return RemoteFunction(name)
        if answer == "missing":
            raise StudentError(MISSING.format(name=name))
        if answer == "refused" and isinstance(value, str):
            raise StudentError(REFUSED.format(name=name, why=value[:2000]))
        if answer == "error" and is_description(value):
            raise as_error(value)
        raise self.lose(StudentGone, MALFORMED.format(name=name, why="no answer"))

    def fetch(self, name: str) -> None:
        """Give a name the student's value, or what raises the reason for none."""
        try:
            self.shell.user_ns[name] = self.ask("get", {"name": name})
        except StudentError as error:
            self.shell.user_ns[name] = Unavailable(error)

    def report(self, result: Any) -> None:
        """Called by IPython after each cell: tell the grader what became of it."""
        if result.info is not self.cell:
            self.inner_error = self.inner_error or error_in(result)
            return
        self.cell = None
        self.close()
        try:
            verdict = self.verdict(result)
        except Exception as error:
            # No verdict would let the grader wait; what a value does is not ours.
            verdict = told_of(error, None)
        verdict |= {"event": "verdict", "asked": self.asked, "memory": resident()}
        control.send(self.control, verdict)

    def verdict(self, result: Any) -> dict[str, Any]:
        """Return what IPython's `ExecutionResult` says, as plain JSON."""
        error = error_in(result) or self.inner_error
        if error is None:
            return {"value": as_score(result.result, result.info.raw_cell)}
        student = error if isinstance(error, StudentError | NoInspector) else None
        if student is None and not isinstance(error, AssertionError):
            student = self.first_error
        line = line_in(self.shell.user_global_ns, error)
        told = {**told_of(error, student), "line": line}
        if isinstance(error, AssertionError):
            told["compared"] = compared_in(error)
        return told


def error_in(result: Any) -> BaseException | None:
    """Return what a cell raised, by IPython's `ExecutionResult`."""
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    return error


def told_of(
    error: BaseException, student: StudentError | NoInspector | None
) -> dict[str, Any]:
    """Return what the grader is told of an error, and of the student's behind it."""
    name = getattr(error, "name", None)
    return {
        "error": type(error).__name__,
        "message": text_of(error),
        "outcome": student.outcome if student else None,
        "name": name if isinstance(name, str) else None,
    }


def text_of(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:
        return "(its message cannot be shown)"


class RemoteFunction:
    """A function of the student's, called in the student's process.

    Arguments and results are copies: None, bool, int, float, complex, str, NumPy and
    JAX arrays, and tuples, lists and dicts of these.

    Raises:
        StudentError: what the student's code raised, or why there is no result.
        TypeError: for an argument that cannot cross; the fault is in the test.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        body = {"name": self.__name__, "args": args, "kwargs": kwargs}
        return session().ask("call", body)

    def __jaxgrader_trace__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> "RemoteProgram":
        """Called by `jaxgrader.testing.trace`: the student's process traces the call.

        What it sends is read and run in the inspector, never here.
        """
        body = {"name": self.__name__, "args": args, "kwargs": kwargs}
        packed = session().ask("export", body)
        if not isinstance(packed, bytes):
            raise StudentError(MALFORMED.format(name=self.__name__, why="no program"))
        call = Call(self.__name__, packed, args, kwargs)
        program = Program.from_value(call.inspect("read", args, kwargs))
        return RemoteProgram(**vars(program), call=call)

    def __repr__(self) -> str:
        return f"<the student's {self.__name__}>"


@dataclass(frozen=True)
class Call:
    """A traced call of a student's function: bytes that only the inspector opens."""

    name: str
    packed: bytes
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def inspect(self, kind: str, args: Any, kwargs: Any) -> Any:
        """Let the inspector read the program, or run it.

        Raises:
            ProgramError: for a program that is refused, or that ended the inspector.
        """
        body = {"program": self.packed, "args": args, "kwargs": kwargs}
        try:
            answer, value = session().inspections.ask(kind, body)
        except wire.WireError as error:
            raise ProgramError(BAD_PROGRAM.format(name=self.name, why=error)) from None
        if answer != "value":
            raise ProgramError(str(value)[:2000])
        return value


@dataclass(frozen=True)
class RemoteProgram(Program):
    """A program of the student's: its structure, and its values on other arrays."""

    call: Call | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run this very program on other arrays, in a process of its own.

        Raises:
            ProgramError: for arrays of other shapes or dtypes, or if it does not run.
        """
        assert self.call is not None
        return self.call.inspect("run", args, kwargs)


class Unavailable:
    """A value of the student's that cannot cross: what a test does with it fails."""

    def __init__(self, error: StudentError) -> None:
        self.__dict__["_error"] = error

    def __getattr__(self, name: str) -> Any:
        raise self._error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._error

    __eq__ = __call__
    __hash__ = None  # type: ignore[assignment]
    __bool__ = __len__ = __iter__ = __array__ = __float__ = __getitem__ = __call__


_session: Session | None = None


def attach(path: str) -> None:
    """Called once in a new checker: connect to the grader at `path`."""
    global _session
    from IPython import get_ipython

    connection = reach(path)
    shell = get_ipython()
    # IPython's own style shows more lines, and takes longer than most tests.
    shell.InteractiveTB.set_mode("Plain")
    _session = Session(connection, shell)
    shell.events.register("pre_run_cell", _session.begin)
    shell.events.register("post_run_cell", _session.report)


def session() -> Session:
    """Return this process's session."""
    assert _session is not None, "this process is no checker"
    return _session


def bind(functions: list[str], values: list[str]) -> None:
    """Make names remote from here on; values are fetched before each test."""
    here = session()
    here.shell.user_ns |= {name: RemoteFunction(name) for name in functions}
    here.values = (*here.values, *values)


def is_description(value: Any) -> bool:
    """Whether what arrived has the form that `server.describe` gives."""
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), str) for key in ("type", "message"))
        and all(
            isinstance(value.get(key), list)
            and all(isinstance(item, str) for item in value[key])
            for key in ("kinds", "lines")
        )
    )


def as_error(told: dict[str, Any]) -> StudentError:
    """Make the exception that a test sees from what is told of the student's."""
    kind_and_message = told["type"][:200], told["message"][:4000]
    message = ": ".join(filter(None, kind_and_message))
    lines = "".join(f"\n  {line[:300]}" for line in told["lines"][:12])
    for name in told["kinds"]:
        kind = CATCHABLE.get(name)
        if kind is not None:
            return kind(message + (f"\nin your code:{lines}" if lines else ""))
    return StudentError(message + (f"\nin your code:{lines}" if lines else ""))


def _catchable(kind: type[Exception]) -> type[StudentError]:
    made = type("StudentError", (StudentError, kind), {"__str__": Exception.__str__})
    made("a message")
    return made


#: Built-in exceptions that no StudentError is. AssertionError: only a test's own means
#: that the test found something. StopIteration: it ends a test's loop over
#: ``map(function, inputs)``, as if there were no more inputs.
NOT_CATCHABLE = {"Exception", "AssertionError", "StopIteration", "StopAsyncIteration"}
#: Built-in exception -> a StudentError of that type.
CATCHABLE: dict[str, type[StudentError]] = {}
for _name, _kind in vars(builtins).items():
    if isinstance(_kind, type) and issubclass(_kind, Exception):
        with contextlib.suppress(TypeError):  # some need more than a message
            CATCHABLE[_name] = _catchable(_kind)
for _name in NOT_CATCHABLE:
    CATCHABLE.pop(_name, None)


def line_in(namespace: dict[str, Any], error: BaseException) -> int | None:
    """Return the line of the cell itself that led to an error, None for none.

    A function that the cell defines may hold the line that raised; this is the line
    that called it.
    """
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals is namespace and frame.f_code.co_name == "<module>":
            return trace.tb_lineno
        trace = trace.tb_next
    return None


def as_score(value: Any, source: str) -> dict[str, Any] | None:
    """Return what a test cell's value says: a truth, a number, or nothing at all.

    What is neither, but could have come from the student (an array, a string), is
    "no score": it may not earn points as a figure or a table of the author's does.
    """
    if value is None:
        return {"none": "None"} if ends_in_a_condition(source) else None
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 0:
        value = np.asarray(value)[()]
    if isinstance(value, bool | np.bool_):
        return {"truth": bool(value)}
    if isinstance(value, numbers.Real) or is_real_scalar(value):
        return {"number": repr(as_float(value))}
    if isinstance(value, RemoteFunction | Unavailable):
        return {"none": type(value).__name__}
    try:
        wire.encode("value", value)
    except wire.Refused:
        return None
    return {"none": type(value).__name__}


def is_real_scalar(value: Any) -> bool:
    """Whether this is one of NumPy's or JAX's scalars (bfloat16, int4) of real kind."""
    real = (np.floating, np.integer)
    return isinstance(value, np.generic) and any(
        jax.numpy.issubdtype(value.dtype, kind) for kind in real
    )


def as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def ends_in_a_condition(source: str) -> bool:
    """Whether a cell's last line combines values: ``f(1) and f(1) == 2``."""
    try:
        last = ast.parse(source).body[-1]
    except (SyntaxError, ValueError, IndexError):
        return False
    conditions = ast.BoolOp | ast.Compare | ast.IfExp | ast.BinOp | ast.UnaryOp
    return isinstance(last, ast.Expr) and isinstance(last.value, conditions)


def resident() -> int:
    """Return the bytes of memory that this process holds, by Linux's count."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


MISSING = "NameError: name {name!r} is not defined: the notebook does not define it"
REFUSED = "{name}: {why}"
ARGUMENT = "{name}{path}: the argument cannot cross to the student's process: {why}"
LATE = "{name} took longer than a test may wait for it. Is there an endless loop?"
GONE = "{name} gave no answer: the kernel that it ran on has died or stopped listening"
AGAIN = "{name} was not called: an earlier call in this test got no answer"
BAD_PROGRAM = "{name}: its traced program could not be read or run ({why})"
MALFORMED = "{name} gave no valid answer ({why})"
