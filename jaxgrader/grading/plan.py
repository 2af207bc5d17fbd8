"""What the checker runs, read from the instructor's notebook, never from a student's.

What it is: the order of set-up, remote names and tests, by static analysis of the
cells in source/. What it is not: anything that runs them. Assumes that source/ is the
notebook that the assignment was generated from.

* Locked cells without points are set-up: the checker runs them, as the kernel does.
* Solution cells are not run: the names that they define at top level become remote, and
  what they import is imported.
* Of the other cells, which students may change, the checker runs the instructor's text
  of those that tests and set-up need: an import, a helper.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from IPython.core.inputtransformer2 import TransformerManager
from nbformat.notebooknode import NotebookNode

from jaxgrader.errors import CourseError

#: The tag of a test cell that must run in the student's kernel.
IN_KERNEL = "in-kernel"
#: Cells of which the names are remembered: each student's checker asks for the same.
CELLS = 1024
HIDDEN_BEGIN, HIDDEN_END = "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"


class Kind(StrEnum):
    """What a step of the plan is."""

    RUN = "run"  # code that the checker executes
    NAMES = "names"  # names that are the student's from here on
    TEST = "test"  # where a test cell stands


@dataclass(frozen=True)
class Step:
    """One thing to do in the checker, in the order of the source notebook."""

    kind: Kind
    #: The code of RUN, the grade_id of TEST.
    text: str = ""
    #: Of NAMES: functions and classes, and everything else.
    functions: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How the tests of one notebook are run."""

    steps: tuple[Step, ...] = ()
    #: grade_ids of tests that run in the student's kernel.
    in_kernel: frozenset[str] = frozenset()
    tests: tuple[str, ...] = ()

    def before(self, grade_id: str) -> tuple[Step, ...]:
        """Return the steps that stand in front of a test, other tests left out.

        Raises:
            CourseError: if the source has no such test.
        """
        steps: list[Step] = []
        for step in self.steps:
            if step.kind is Kind.TEST and step.text == grade_id:
                return tuple(steps)
            if step.kind is not Kind.TEST:
                steps.append(step)
        raise CourseError(NO_SUCH_TEST.format(grade_id=grade_id))


def plan_of(source: NotebookNode) -> Plan:
    """Read the instructor's notebook.

    Raises:
        CourseError: if one of its cells is not Python.
    """
    cells = [Cell.of(cell) for cell in source.cells if cell.cell_type == "code"]
    needed = needed_cells(cells)
    steps = [step for cell in cells for step in steps_of(cell, run=cell in needed)]
    tests = tuple(cell.grade_id for cell in cells if cell.kind == "test")
    in_kernel = {cell.grade_id for cell in cells if cell.in_kernel}
    return Plan(tuple(steps), frozenset(in_kernel), tests)


@dataclass(frozen=True, eq=False)
class Cell:
    """A code cell of the source, and the names in it."""

    kind: str  # "test", "solution", "set-up" or "plain"
    grade_id: str
    source: str
    in_kernel: bool
    tree: ast.Module = field(repr=False)

    @classmethod
    def of(cls, cell: NotebookNode) -> "Cell":
        """Raises CourseError for what is not Python."""
        info = cell.metadata.get("nbgrader", {})
        kind = "plain"
        if info.get("grade") and not info.get("solution"):
            kind = "test"
        elif info.get("solution"):
            kind = "solution"
        elif info.get("locked"):
            kind = "set-up"
        grade_id = str(info.get("grade_id", ""))
        try:
            code = TransformerManager().transform_cell(cell.source)  # type: ignore[no-untyped-call]
            tree = ast.parse(code)
        except (SyntaxError, ValueError) as error:
            if kind == "plain":
                tree = ast.Module([], [])  # a cell in another language: not ours to run
            else:
                what = grade_id or "a cell"
                raise CourseError(NOT_PYTHON.format(what=what, why=error)) from None
        tagged = kind == "test" and IN_KERNEL in cell.metadata.get("tags", [])
        return cls(kind, grade_id, cell.source, tagged, tree)

    @property
    def loads(self) -> set[str]:
        """Names that the cell uses, its own included."""
        return loaded(self.tree)

    @property
    def defines(self) -> set[str]:
        """Names that the cell gives a meaning at top level."""
        functions, values, imports = top_level(self.tree)
        return {*functions, *values, *imports}


def needed_cells(cells: list[Cell]) -> set[Cell]:
    """Return the cells that the checker executes: set-up, and what tests build on."""
    needed = {cell for cell in cells if cell.kind == "set-up"}
    users = [cell for cell in cells if cell.kind == "test" and not cell.in_kernel]
    users += needed
    while users:
        wanted = users.pop().loads
        for cell in cells:
            if cell.kind == "plain" and cell not in needed and cell.defines & wanted:
                needed.add(cell)
                users.append(cell)
    return needed


def steps_of(cell: Cell, run: bool) -> Iterator[Step]:
    """Yield what the checker does where this cell stands."""
    if run:
        yield Step(Kind.RUN, cell.source)
    elif cell.kind == "test":
        yield Step(Kind.TEST, cell.grade_id)
    elif cell.kind == "solution":
        imports = [
            n for n in cell.tree.body if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        if imports:
            yield Step(Kind.RUN, "\n".join(map(ast.unparse, imports)))
        functions, values, _ = top_level(cell.tree)
        if functions or values:
            yield Step(Kind.NAMES, "", tuple(functions), tuple(values))


@lru_cache(CELLS)
def names_in(source: str) -> frozenset[str]:
    """Return the names that a cell of the instructor's gives a meaning."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()
    functions, values, imports = top_level(tree)
    return frozenset([*functions, *values, *imports])


@lru_cache(CELLS)
def names_used(source: str) -> frozenset[str]:
    """Return the names that a cell of the instructor's uses, its own included."""
    try:
        return frozenset(loaded(ast.parse(source)))
    except (SyntaxError, ValueError):
        return frozenset()


def loaded(tree: ast.Module) -> set[str]:
    """Return the names that are read anywhere in a tree."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def top_level(tree: ast.Module) -> tuple[list[str], list[str], list[str]]:
    """Return the functions and classes, the other values and the imports of a cell.

    Also those under a top-level ``if``, ``for``, ``with`` or ``try``.
    """
    functions: dict[str, None] = {}
    values: dict[str, None] = {}
    imports: dict[str, None] = {}
    for node in outside_functions(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            functions[node.name] = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            values[node.id] = None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                imports[alias.asname or alias.name.partition(".")[0]] = None
    return list(functions), [v for v in values if v not in functions], list(imports)


#: What opens a scope of its own.
SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but not into functions, classes and comprehensions."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, SCOPES):
            yield from outside_functions(child)


NO_SUCH_TEST = (
    "source/ has no test cell {grade_id!r}, which the gradebook knows. Generate the "
    "assignment again, then autograde it again."
)
NOT_PYTHON = (
    "{what} in source/ is not Python: {why}. Mend it, then generate the assignment "
    "again."
)
