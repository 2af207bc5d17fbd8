"""Do the points depend on the hidden inputs that happened to be drawn? `make accuracy`.

Every variant is graded on ten draws of the hidden inputs: the tests of an assignment
stand in the notebook ten times, each time with another key in their hidden part, and
the solution cell before them, so that nothing a variant keeps survives. Each draw must
give the points that the variant states. It takes about half an hour on two cores.
"""

import asyncio
import copy
import re
import sys
from collections.abc import Iterable

import nbformat
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell
from traitlets.config import Config

from demo.students import NOTEBOOKS, variant
from jaxgrader.grading.plan import plan_of
from jaxgrader.grading.runner import Grader, NotebookJob, is_test
from tests.assignments.test_points import names, stated_points
from tests.conftest import CLONE

DRAWS = 10
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", re.DOTALL)
KEY = re.compile(r"jax\.random\.key\((\d+)\)")


def redrawn(source: str, draw: int) -> str:
    """Return a test cell whose hidden inputs come of another key."""

    def other(hidden: re.Match[str]) -> str:
        text = hidden[0]
        for number in sorted(set(KEY.findall(text))):
            text = re.sub(rf"\b{number}\b", str(int(number) + 7919 * draw), text)
        return text

    return HIDDEN.sub(other, source)


def with_draws(
    nb: NotebookNode, draws: int, *, answer_again: bool = True
) -> NotebookNode:
    """Return a notebook with its tests repeated, as ``<grade_id>-<draw>``.

    Before each draw stands a copy of the answer. In an author's notebook it would be a
    set-up cell, which the checker runs, too.
    """
    nb = copy.deepcopy(nb)
    (solution,) = (
        c for c in nb.cells if c.metadata.get("nbgrader", {}).get("solution")
    )
    tests = [cell for cell in nb.cells if is_test(cell)]
    nb.cells = [cell for cell in nb.cells if not is_test(cell)]
    for draw in range(draws):
        if draw and answer_again:
            nb.cells.append(new_code_cell(solution.source))
        for cell in copy.deepcopy(tests):
            cell.metadata.nbgrader.grade_id += f"-{draw}"
            cell.source = redrawn(cell.source, draw)
            nb.cells.append(cell)
    return nb


def read(assignment: str) -> NotebookNode:
    path = CLONE / "source" / assignment / f"{NOTEBOOKS[assignment]}.ipynb"
    nb: NotebookNode = nbformat.read(path, as_version=4)
    return nb


async def check(
    assignment: str, variants: Iterable[str], draws: int = DRAWS
) -> list[str]:
    """Grade variants of an assignment; return what differs from what they state."""
    source = read(assignment)
    plan = plan_of(with_draws(source, draws, answer_again=False))
    folder = CLONE / "source" / assignment
    grader = Grader("jax-sandboxed", Config({"Sandbox": {"files": "copy"}}))
    wrong = []
    try:
        for name in variants:
            nb = copy.deepcopy(source)
            for cell in nb.cells:
                if cell.metadata.get("nbgrader", {}).get("solution"):
                    cell.source = variant(assignment, name)[1]
            job = NotebookJob(
                with_draws(nb, draws), plan, source=folder, cell=60, wall=600
            )
            _, results = await grader.grade(job)
            stated = stated_points(assignment, name)
            assert len(results) == draws * len(stated)
            for result in results:
                test, _, draw = result.grade_id.rpartition("-")
                if result.score != stated[test]:
                    got = f"{result.score} points, not {stated[test]:g}"
                    why = result.sentence[:300]
                    wrong.append(
                        f"{assignment} {name} {test} draw {draw}: {got}: {why}"
                    )
    finally:
        await grader.close()
    return wrong


def main() -> int:
    wrong = []
    for assignment in sys.argv[1:] or NOTEBOOKS:
        variants = names(assignment)
        found = asyncio.run(check(assignment, variants))
        print(f"{assignment}: {len(variants)} variants, {DRAWS} draws", flush=True)
        for line in found:
            print("  " + line, flush=True)
        wrong += found
    print(f"{len(wrong)} scores differ from what the variants state")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
