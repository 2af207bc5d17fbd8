"""The floor: what a notebook must cost, whoever grades it.

A warm kernel is forked, and runs the cells of the notebook that are no tests, and the
calls that its tests make of the student's function: nothing is compared, and nothing is
written. The cache is as warm as in grading. What grading costs beyond this is ours.
"""

import asyncio
import contextlib
import io
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import nbformat
import numpy as np
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from demo.students import variant
from jaxgrader.exports import LocalProgram, export_call, read_packed
from jaxgrader.grading.runner import Grader, NotebookJob, is_test

ROUNDS = 5
CLOCK = "import time; print(time.process_time())"
REPLAY = """
import jax as _jax
import numpy as _np
from jaxgrader.exports import export_call as _export
def _a(dtype, values, on_device):
    array = _np.array(values, dtype)
    return _jax.device_put(array) if on_device else array
for _kind, _args, _kwargs in [{calls}]:
    _export({name}, _args, _kwargs) if _kind == "trace" else {name}(*_args, **_kwargs)
"""


class Recorder:
    """A function that writes down, as source code, how it is called and traced."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.calls: list[str] = []

    def note(self, kind: str, args: Any, kwargs: Mapping[str, Any]) -> None:
        spelled = ", ".join(f"{name!r}: {spell(v)}" for name, v in kwargs.items())
        self.calls.append(f"({kind!r}, {spell(tuple(args))}, {{{spelled}}})")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.note("call", args, kwargs)
        return self.function(*args, **kwargs)

    def __jaxgrader_trace__(self, args: Any, kwargs: Any) -> LocalProgram:
        self.note("trace", args, kwargs)
        return read_packed(export_call(self.function, args, kwargs))


def spell(value: Any) -> str:
    """Return source code for an argument of a test's call."""
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return f"_a({str(array.dtype)!r}, {array.tolist()!r}, {value is not array})"
    if isinstance(value, tuple):
        return f"({''.join(spell(item) + ', ' for item in value)})"
    return repr(value)


def floor_notebook(source: Path, assignment: str) -> NotebookNode:
    """Return the notebook that does the calls of the tests in `source`, no more."""
    cells = [c for c in nbformat.read(source, as_version=4).cells if c.source]
    code = [cell for cell in cells if cell.cell_type == "code"]
    for cell in code:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = variant(assignment, "right_idiomatic")[1]
    plain = [cell for cell in code if not is_test(cell)]
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in plain:
            exec(cell.source, names)  # noqa: S102 - this course's own cells
        names[source.stem] = recorder = Recorder(names[source.stem])
        for cell in filter(is_test, code):
            exec(cell.source, names)  # noqa: S102
    replay = REPLAY.format(calls=", ".join(recorder.calls), name=source.stem)
    kept = [new_code_cell(cell.source) for cell in plain]
    return new_notebook(cells=[*kept, new_code_cell(replay), new_code_cell(CLOCK)])  # type: ignore[no-untyped-call]


def floor(source: Path, assignment: str) -> float:
    """Return the CPU seconds of a notebook's floor, the median of some rounds."""
    nb = floor_notebook(source, assignment)
    return statistics.median(asyncio.run(measure(nb)))


async def measure(nb: NotebookNode) -> list[float]:
    grader = Grader("jax-sandboxed", Config({"Sandbox": {"files": "copy"}}))
    costs = []
    for _ in range(ROUNDS + 1):  # the first may start a fork server
        done, _ = await grader.grade(NotebookJob(nb, None, cell=60, wall=180))
        for cell in done.cells:
            for output in cell.outputs:
                if output.output_type == "error":
                    raise RuntimeError(f"{output.ename}: {output.evalue}")
        costs.append(float(done.cells[-1].outputs[0].text))
    await grader.close()
    return costs[1:]
