"""The class: who hands in what. Answers come from `tests/assignments/variants`."""

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

VARIANTS = Path(__file__).parent.parent / "tests" / "assignments" / "variants"

FORI = "nnx-fori-loop"
SCAN = "nnx-scan-rnn"
LAX = "lax-scan-in-module"
COMPOSED = "nnx-composed-transforms"
NESTED = "nnx-deep-nesting"

#: Assignment -> its notebook, which is also the name of the function to write.
NOTEBOOKS = {
    FORI: "fori_loop_recurrence",
    SCAN: "scan_rnn_forward",
    LAX: "lax_scan_in_module",
    COMPOSED: "composed_transforms",
    NESTED: "deep_nested_forward",
}

#: What a student does with the fetched notebook before submitting it.
Work = Callable[[Path], None]


@dataclass(frozen=True)
class Student:
    """A synthetic student: what they do with each assignment that they submit."""

    name: str
    story: str
    work: Mapping[str, Work]
    late: bool = False
    validates: tuple[str, ...] = field(default=())


def variant(assignment: str, name: str) -> tuple[str, str]:
    """Return the phrase that describes a variant, and the code that a student types."""
    text = (VARIANTS / assignment / f"{name}.py").read_text()
    module = ast.parse(text)
    phrase = (ast.get_docstring(module) or name).splitlines()[0]
    return phrase, "\n".join(text.splitlines()[module.body[0].end_lineno :]).strip()


def solution_cell(cells: list[dict[str, object]]) -> dict[str, object]:
    """Return the one cell that a student is asked to fill."""
    for cell in cells:
        metadata = cell["metadata"]
        if isinstance(metadata, dict) and metadata.get("nbgrader", {}).get("solution"):
            return cell
    raise ValueError("no solution cell")


def type_in(code: str) -> Work:
    """Type `code` into the solution cell."""

    def work(notebook: Path) -> None:
        nb = json.loads(notebook.read_text())
        solution_cell(nb["cells"])["source"] = code.splitlines(keepends=True)
        notebook.write_text(json.dumps(nb, indent=1))

    return work


def answer(assignment: str, name: str) -> Work:
    """Type a variant's code into the solution cell."""
    return lambda notebook: type_in(variant(assignment, name)[1])(notebook)


def nothing(notebook: Path) -> None:
    """Submit the release as it was fetched."""


def cut_short(notebook: Path) -> None:
    """Leave half a file, as a full disk does."""
    text = notebook.read_text()
    notebook.write_text(text[: len(text) // 2])


def lose(notebook: Path) -> None:
    """Submit the folder without the notebook."""
    notebook.unlink()


ENDLESS = """def fori_loop_recurrence(seed, x, hidden, T):
    state = x
    while not jnp.allclose(state, 0.0):  # waits for a fixed point that never comes
        state = jnp.tanh(state + x)
    return state
"""

CLASS = (
    Student(
        "bitdiddle",
        "right answers, as the lessons suggest them",
        {a: answer(a, "right_idiomatic") for a in NOTEBOOKS},
        validates=(FORI,),
    ),
    Student(
        "hacker",
        "right answers in a style of her own",
        {
            FORI: answer(FORI, "right_deprecated_value"),
            SCAN: answer(SCAN, "right_split_and_merge"),
            LAX: answer(LAX, "right_nn_scan"),
            COMPOSED: answer(COMPOSED, "right_vmap_inside_scan"),
            NESTED: answer(NESTED, "right_functional"),
        },
        validates=(FORI,),
    ),
    Student(
        "reasoner",
        "typical mistakes: one turn too many, a slice forgotten",
        {
            FORI: answer(FORI, "wrong_one_turn_more"),
            SCAN: answer(SCAN, "wrong_slice_missing"),
            NESTED: answer(NESTED, "wrong_relu_missing"),
        },
    ),
    Student(
        "fect",
        "other mistakes: a loop unrolled, a shape not flattened, a model kept",
        {
            LAX: answer(LAX, "unrolled_python_loop"),
            COMPOSED: answer(COMPOSED, "wrong_unflattened"),
            NESTED: answer(NESTED, "wrong_cached_by_size"),
        },
    ),
    Student("ator", "submits two releases unstarted", {FORI: nothing, LAX: nothing}),
    Student(
        "lovelace",
        "answers one, and submits the other without its notebook",
        {NESTED: answer(NESTED, "right_idiomatic"), SCAN: lose},
    ),
    Student("turing", "writes a loop that never halts", {FORI: type_in(ENDLESS)}),
    Student(
        "babbage",
        "answers one; the other file broke on the way",
        {FORI: answer(FORI, "right_idiomatic"), LAX: cut_short},
    ),
    Student(
        "tweakit",
        "a right answer, too late",
        {FORI: answer(FORI, "right_scan")},
        late=True,
    ),
)
