"""Why JAX could not trace a function, in words for the person who wrote it."""

import linecache
import sysconfig
import traceback
from pathlib import Path

import jax

from jaxgrader.errors import first_line

#: Frames of these folders are nobody's to mend.
_NOT_THEIRS = (
    *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")},
    str(Path(__file__).parent),
)


def explain(error: BaseException) -> str:
    """Say what to change so that JAX can trace the function.

    Names the last line of the traceback that belongs to neither Python, nor an
    installed package, nor jaxgrader.
    """
    remedy = next((text for kind, text in REMEDIES if isinstance(error, kind)), None)
    if remedy is None:
        first = first_line(error, 300)
        remedy = RAISES.format(f"{type(error).__name__}: {first}".rstrip(": "))
    return f"JAX cannot trace your function: {_where(error)} {remedy}"


def _where(error: BaseException) -> str:
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        code = frame.f_code
        if not code.co_filename.startswith(_NOT_THEIRS):
            text = linecache.getline(code.co_filename, number).strip()
            quoted = f", `{text:.100}`," if text else ""
            return f"line {number} in `{code.co_name}`{quoted}"
    return "it"


USES_LEFT_OVERS = (
    "uses an array that was left over from an earlier trace, or from inside of a loop. "
    "Make every array, module and Rngs in the call that uses it, and return what a "
    "loop computes instead of storing it"
)

#: The first that fits counts.
REMEDIES: tuple[tuple[type[BaseException], str], ...] = (
    (
        jax.errors.TracerArrayConversionError,
        "makes a NumPy array of an array that is being traced. Use jnp instead of np "
        "for all that is computed from the arguments",
    ),
    (
        jax.errors.TracerBoolConversionError,
        "decides by the value of an array that is being traced. Use jnp.where, "
        "jax.lax.cond or jax.lax.while_loop instead of if, while, and, or, assert",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "picks entries by a mask that is being traced, so that their number is not "
        "known. Use jnp.where with three arguments",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "uses an array that is being traced as a Python integer, as range() or the "
        "index of a list do. Use jax.lax loops, and jnp arrays in place of lists",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "needs the value of an array that is being traced, as int(), float() and "
        ".item() do. Keep it an array, and compute with jnp",
    ),
    (
        jax.errors.UnexpectedTracerError,
        USES_LEFT_OVERS,
    ),
    (RecursionError, "calls itself without an end (RecursionError)"),
)

RAISES = "raises {}"
