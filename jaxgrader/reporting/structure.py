"""What the tests of a program's structure found: who unrolled the loop.

Which tests these are, the author's text of a cell says: it calls one of the checks of
programs in `jaxgrader.testing`. What one of them found, its own sentence says. Only the
sentence of a test that failed by itself is read so: what a student's code raises has
another outcome (ERROR), and cannot pass for a finding. But that a function cannot be
traced is found, and said, in the student's process.
"""

import ast
import re

from jaxgrader.results import Outcome

#: The checks of programs in `jaxgrader.testing`.
CHECKS = {
    "assert_constant_trace",
    "assert_loop",
    "assert_no_unrolling",
    "assert_vectorized",
}
AS_ASKED = "as asked"
UNROLLED = "a loop unrolled in Python"
NO_LOOP = "no such loop in the program"
OVER_BATCH = "a loop over the samples of a batch"
GROWS = "a program that depends on the size"
NOT_TRACED = "a function that JAX cannot trace"
OTHER = "something else, such as wrong values"
NOT_REACHED = "the test did not get that far"
#: How the checks say what they have found; the tests compare it with what they say.
SENTENCES = {
    UNROLLED: re.compile(r"the loop was unrolled in Python"),
    NO_LOOP: re.compile(r"expected a loop\b.*? on which the results depend; found \d"),
    OVER_BATCH: re.compile(
        r"Python loops over the samples|your program loops over .* its loops make"
    ),
    GROWS: re.compile(r"expected the same program"),
}
NO_TRACE = re.compile(r"(\w+: )?JAX cannot trace your function: ")
FINDINGS = (*SENTENCES, NOT_TRACED, OTHER, NOT_REACHED, AS_ASKED)


def judges_structure(source: str | None) -> bool:
    """Whether a test's text calls a check of programs."""
    try:
        nodes = list(ast.walk(ast.parse(source or "")))
    except (SyntaxError, ValueError):
        return False  # it has magics in it, say
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = {
        getattr(function, "attr", getattr(function, "id", "")) for function in called
    }
    return bool(names & CHECKS)


def finding(outcome: str, sentence: str | None) -> str:
    """Return what a test of the structure found, one of `FINDINGS`."""
    if outcome == Outcome.PASSED:
        return AS_ASKED
    text = sentence or ""
    if NO_TRACE.match(text):
        return NOT_TRACED
    if outcome != Outcome.FAILED:
        return NOT_REACHED
    found = (name for name, said in SENTENCES.items() if said.search(text))
    return next(found, OTHER)
