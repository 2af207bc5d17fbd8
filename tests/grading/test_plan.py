"""What the checker runs, and which names are remote: read from the author's cells."""

import pytest
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from jaxgrader.errors import CourseError
from jaxgrader.grading.plan import Kind, Plan, Step, names_in, names_used, plan_of
from tests.conftest import nbgrader_cell, notebook_of


def plan(*cells: NotebookNode) -> Plan:
    return plan_of(notebook_of(*cells))


def steps(*cells: NotebookNode) -> list[Step]:
    return list(plan(*cells).steps)


def solution(source: str) -> NotebookNode:
    return nbgrader_cell("solution", "answer", source)


def test_set_up_is_run_and_solutions_are_not() -> None:
    cells = (
        nbgrader_cell("locked", "imports", "import math"),
        solution("def f(): 1 / 0"),
    )
    assert steps(*cells) == [
        Step(Kind.RUN, "import math"),
        Step(Kind.NAMES, functions=("f",)),
    ]


@pytest.mark.parametrize(
    ("source", "functions", "values"),
    [
        ("def f(): pass\nasync def g(): pass\nclass C: x = 1", ("f", "g", "C"), ()),
        ("a, (b, *c) = 1, (2, 3)\nd: int = 4\ne += 1", (), ("a", "b", "c", "d", "e")),
        ("if 1:\n    def f(): y = 1\nelse:\n    f = None", ("f",), ()),
        ("with open('x') as file:\n    for i in file: pass", (), ("file", "i")),
        ("squares = [q * q for q in (lambda z: z)(range(3))]", (), ("squares",)),
        ("(w := 3)", (), ("w",)),
    ],
)
def test_names_of_a_solution(
    source: str, functions: tuple[str, ...], values: tuple[str, ...]
) -> None:
    (step,) = steps(solution(source))
    assert step.kind is Kind.NAMES
    assert set(step.functions) == set(functions)
    assert set(step.values) == set(values)


def test_imports_of_a_solution_are_the_checkers_own() -> None:
    found = steps(solution("import math\nfrom os import path as p\ndef f(): pass"))
    assert found[0] == Step(Kind.RUN, "import math\nfrom os import path as p")
    assert found[1].functions == ("f",)


def test_plain_cells_are_run_when_a_test_needs_them() -> None:
    needed = new_code_cell("import numpy as np\ndef reference(x): return base + x")
    base, other = new_code_cell("base = 3"), new_code_cell("1 / 0\nunused = 2")
    test = nbgrader_cell("test", "t", "assert f(1) == reference(np.array(1))", 1)
    ran = [s.text for s in steps(base, needed, other, test) if s.kind is Kind.RUN]
    assert ran == [base.source, needed.source]


def test_steps_in_front_of_a_test_leave_other_tests_out() -> None:
    first = nbgrader_cell("test", "first", "x = 1", 1)
    last = nbgrader_cell("test", "last", "assert x", 1)
    made = plan(first, solution("def f(): pass"), last)
    assert made.before("first") == ()
    assert [step.kind for step in made.before("last")] == [Kind.NAMES]


def test_a_test_that_the_source_has_not() -> None:
    with pytest.raises(CourseError, match="source/ has no test cell 'gone'"):
        plan().before("gone")


def test_in_kernel_is_a_tag_of_test_cells() -> None:
    inside = nbgrader_cell("test", "inside", "pass", 1)
    inside.metadata["tags"] = ["in-kernel"]
    setup = nbgrader_cell("locked", "imports", "import math")
    setup.metadata["tags"] = ["in-kernel"]
    made = plan(setup, inside, nbgrader_cell("test", "outside", "pass", 1))
    assert made.in_kernel == {"inside"}
    assert made.tests == ("inside", "outside")


def test_what_is_not_python_is_named() -> None:
    with pytest.raises(CourseError, match="imports in source/ is not Python"):
        plan(nbgrader_cell("locked", "imports", "import"))


def test_magics_and_other_languages() -> None:
    cells = new_code_cell("%%html\n<b>no</b>"), new_markdown_cell("text")
    assert steps(*cells, nbgrader_cell("locked", "s", "%matplotlib inline")) == [
        Step(Kind.RUN, "%matplotlib inline")
    ]


def test_names() -> None:
    assert names_in("import a.b\ndef f(): g\nx = y") == {"a", "f", "x"}
    assert names_used("import a.b\ndef f(): g\nx = y") == {"g", "y"}
    assert names_in("def") == names_used("def") == set()
