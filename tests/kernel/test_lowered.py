"""Lowered programs from the cache: the same modules as JAX's own, letter for letter."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jaxgrader.kernel import lowered
from tests.kernel.lowered_programs import CASES

ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}
#: JAX lowers these each time: what they hold cannot be spelled for certain.
NEVER = {"callback", "own primitive", "print", "large constant"}


def lower_all(folder: Path, *extra: str) -> dict[str, dict[str, str]]:
    """Lower all cases in a new process: what came of them, by pass and name."""
    command = [sys.executable, "-m", "tests.kernel.lowered_programs", str(folder)]
    done = subprocess.run(
        [*command, *extra],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    passes: dict[str, dict[str, str]] = json.loads(done.stdout)
    return passes


@pytest.fixture(scope="module")
def passes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """One process that fills a cache, and a second one that has it from the start."""
    folder = tmp_path_factory.mktemp("cache")
    first = lower_all(folder)
    second = lower_all(folder)
    return {**first, "second process": second["kept"]} | {
        f"second {name}": values for name, values in second.items()
    }


def test_modules_are_those_that_jax_makes(passes: dict[str, dict[str, str]]) -> None:
    # The cases differ by little from each other: one that is mistaken for another
    # would have the other's text.
    assert passes["plain"].keys() == CASES.keys()
    for kind in ("kept", "found", "second process"):
        assert passes[kind] == passes["plain"], kind


def test_each_is_lowered_once(passes: dict[str, dict[str, str]]) -> None:
    assert set(passes["misses"]) == CASES.keys()
    assert set(passes["misses again"]) == NEVER
    assert set(passes["second misses"]) == NEVER


def test_what_was_found_computes_the_same(passes: dict[str, dict[str, str]]) -> None:
    # In a process that has lowered none of it: LAPACK must be ready all the same.
    assert passes["second values"] == passes["values"]
    assert "nan" not in passes["values"]["qr"]


def run(code: str, folder: Path) -> None:
    """Run a program that looks up in `folder` what it lowers, in a new process."""
    begin = """
        import sys
        from pathlib import Path
        import jax
        import numpy as np
        from jax.interpreters import mlir as public
        from jax._src.interpreters import mlir
        from jaxlib.mlir import ir
        from jaxgrader.kernel import lowered
        x = np.ones(3, np.float32)
        """
    whole = textwrap.dedent(begin) + textwrap.dedent(code)
    command = [sys.executable, "-c", whole, str(folder)]
    subprocess.run(command, env=ENVIRONMENT, check=True)


def test_the_same_program_is_compiled_once(tmp_path: Path) -> None:
    """A function that is made anew in each call, as transforms within one are."""
    code = """
        lowered.install(Path(sys.argv[1]))
        compiled = []
        def note(event, duration, **rest):
            if event == "/jax/core/compile/backend_compile_duration":
                compiled.append(rest["fun_name"])
        jax.monitoring.register_event_duration_secs_listener(note)
        for _ in range(3):
            assert np.asarray(jax.jit(lambda x: x * 2)(x))[0] == 2
        assert np.asarray(jax.jit(lambda x: x * 3)(x))[0] == 3
        assert compiled == ["jit(<lambda>)"] * 2, compiled
        jax.config.update("jax_disable_most_optimizations", True)
        assert np.asarray(jax.jit(lambda x: x * 2)(x))[0] == 2
        assert len(compiled) == 3
        """
    run(code, tmp_path)


def test_another_dialect(tmp_path: Path) -> None:
    """Here a primitive is lowered with what a small context does not know."""
    code = """
        found = []
        def lower(ctx, x, **rest):
            found.append(ir.Attribute.parse('#mpmd.user_origin<"f"(0)>'))
            return [x]
        public.register_lowering(jax.lax.sin_p, lower)
        lowered.install(Path(sys.argv[1]))
        assert "sine" not in jax.jit(jax.numpy.sin).lower(x).as_text()
        assert len(found) == 1
        """
    run(code, tmp_path)


def test_a_damaged_entry_is_lowered_again(tmp_path: Path) -> None:
    first = lower_all(tmp_path, "add")
    (entry,) = tmp_path.glob(f"{lowered.PREFIX}*add*")
    good = entry.read_bytes()
    for bad in (b"", good[:-3], good[:40], bytes(reversed(good))):
        entry.write_bytes(bad)
        again = lower_all(tmp_path, "add")
        assert again["kept"] == first["plain"]
        assert set(again["misses"]) == {"add"}
        assert entry.read_bytes() == good


def test_another_jax_is_left_as_it_is(tmp_path: Path) -> None:
    code = """
        def other(module_name, jaxpr, new): ...
        mlir.lower_jaxpr_to_module = other
        lowered.install(Path(sys.argv[1]))
        assert mlir.lower_jaxpr_to_module is other
        """
    run(code, tmp_path)


def test_what_was_looked_up_has_its_name_in_the_caches_key(tmp_path: Path) -> None:
    """A second process finds what the first compiled, and nobody writes a module down.

    Programs that differ by a number differ in their names, and in what they compute.
    """
    code = """
        from jax._src import cache_key
        hits = []
        def note(event, **rest):
            if event.endswith("/cache_hits"):
                hits.append(event)
        jax.monitoring.register_event_listener(note)
        jax.config.update("jax_compilation_cache_dir", sys.argv[1])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        lowered.install(Path(sys.argv[1]))
        cache_key._serialize_ir = None  # what is written down fails from here
        for number in (2, 3):
            assert np.asarray(jax.jit(lambda x: x * number)(x))[0] == number
        assert len(hits) == {hits}, hits
        """
    run(code.replace("{hits}", "0"), tmp_path)
    run(code.replace("{hits}", "2"), tmp_path)


def test_a_compiled_program_does_not_say_where_its_operations_stood(
    tmp_path: Path,
) -> None:
    code = """
        lowered.install(Path(sys.argv[1]))
        program = jax.jit(lambda x: jax.numpy.tanh(x) * 3).lower(x)
        assert "tanh" in program.as_text()
        assert "metadata=" not in program.compile().as_text()
        """
    for _ in range(2):  # lowered, and found
        run(code, tmp_path)
