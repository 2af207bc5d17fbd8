"""A grading slot in a test: one notebook at a time, a real kernel, a real checker."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import pytest
from nbformat.notebooknode import NotebookNode
from traitlets.config import Config

from jaxgrader.grading.plan import plan_of
from jaxgrader.grading.runner import Grader, NotebookJob
from jaxgrader.results import TestResult
from tests.conftest import nbgrader_cell, notebook_of

IMPORTS = nbgrader_cell("locked", "imports", "import math\nimport numpy as np")


class Slot:
    """A grading slot, driven from synchronous tests."""

    def __init__(self, runner: asyncio.Runner, sandbox: dict[str, str]) -> None:
        self.runner = runner
        limits = {"memory": 1 << 30}
        config = Config({"Sandbox": {"files": "copy", **sandbox}, "Limits": limits})
        self.grader = Grader("jax-sandboxed", config)

    def run(self, job: NotebookJob) -> tuple[NotebookNode, tuple[TestResult, ...]]:
        return self.runner.run(self.grader.grade(job))

    def grade(
        self, answer: str, *tests: str, source: str = "def f(x): pass", cell: float = 20
    ) -> list[TestResult]:
        """Grade an answer to a solution cell `source`, by test cells of 2 points."""
        whole = job_of(answer, *tests, source=source)
        return list(self.run(replace(whole, cell=cell))[1])


def job_of(answer: str, *tests: str, source: str = "def f(x): pass") -> NotebookJob:
    cells = [nbgrader_cell("test", f"t{i}", text, 2) for i, text in enumerate(tests)]
    author = notebook_of(IMPORTS, nbgrader_cell("solution", "answer", source), *cells)
    student = notebook_of(IMPORTS, nbgrader_cell("solution", "answer", answer), *cells)
    return NotebookJob(notebook=student, plan=plan_of(author), cell=20, wall=120)


@contextlib.contextmanager
def open_slot(**sandbox: str) -> Iterator[Slot]:
    """Open a slot with fork servers of its own, which end with it."""
    with (
        tempfile.TemporaryDirectory(prefix="jg-") as folder,
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner() as runner,
    ):
        patch.setenv("JAXGRADER_RUNTIME_DIR", folder)
        made = Slot(runner, sandbox)
        yield made
        runner.run(made.grader.close())
