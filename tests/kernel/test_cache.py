"""The compilation cache: filled by the instructor's kernel, read by all others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jaxgrader.kernel import cache
from jaxgrader.kernel.servers import shared_cache
from tests.kernel.conftest import Kernel

Start = Callable[..., Kernel]

#: Compile one function; print its value, and how many programs came from the cache.
COMPILE = """
import jax
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
zero = jax.numpy.float32(0)
hits.clear()
def {name}(x):
    return x * 2 + 1
value = jax.jit({name})(zero)
print(float(value), len(hits))
"""


@pytest.fixture
def shared(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, outside any folder that kernels see."""
    monkeypatch.setenv("JAXGRADER_CACHE_DIR", str(tmp_path / "cache"))
    return shared_cache("cpu")


def fill(start: Start, shared: Path, name: str) -> None:
    """Compile the function in a kernel of the instructor's."""
    with cache.filling(shared) as new:
        kernel = start(SandboxProvisioner={"fill": str(new)})
        assert kernel.run(COMPILE.format(name=name)).text == "1.0 0\n"
        kernel.stop()


def entry(shared: Path, name: str) -> Path:
    """Return the file of a compiled function."""
    (path,) = shared.glob(f"jit_{name}-*-cache")
    return path


@pytest.mark.parametrize("level", ["strict", "basic"])
def test_what_the_instructor_compiled_is_not_compiled_again(
    start: Start, shared: Path, level: str
) -> None:
    assert start().run(COMPILE.format(name="first")).text == "1.0 0\n"
    fill(start, shared, "first")
    reader = start(Sandbox={"level": level})
    assert reader.run(COMPILE.format(name="first")).text == "1.0 1\n"


def test_what_a_student_compiles_stays_theirs(start: Start, shared: Path) -> None:
    fill(start, shared, "first")
    before = {path.name: path.read_bytes() for path in shared.iterdir()}
    kernel = start()
    assert kernel.run(COMPILE.format(name="second")).text == "1.0 0\n"
    assert "-cache" in kernel.run("!ls $JAX_COMPILATION_CACHE_DIR | grep second").text
    assert {path.name: path.read_bytes() for path in shared.iterdir()} == before
    assert start().run(COMPILE.format(name="second")).text == "1.0 0\n"


@pytest.mark.parametrize("level", ["strict", "basic"])
def test_what_tests_compile_is_for_checkers_alone(
    start: Start, shared: Path, level: str
) -> None:
    own = cache.for_tests(shared, "loops")
    fill(start, own, "both")
    fill(start, own, "secret")
    fill(start, shared, "both")
    given = {"SandboxProvisioner": {"entries": str(own)}}
    for name, hits, more in (
        ("secret", 1, given),
        ("both", 1, given),
        ("both", 1, {}),
        ("secret", 0, {}),
    ):
        kernel = start(Sandbox={"level": level}, **more)
        assert kernel.run(COMPILE.format(name=name)).text == f"1.0 {hits}\n"
    student = start(Sandbox={"level": level})
    look = f"!cat {own}/* {shared}.tests/*/* /run/jaxgrader/*/* | grep -c secret"
    assert student.run(look).text.splitlines()[-1] == "0"


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_damaged_entry_costs_time_and_nothing_else(
    start: Start, shared: Path, content: bytes | None
) -> None:
    fill(start, shared, "first")
    path = entry(shared, "first")
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    result = start().run(COMPILE.format(name="first"))
    assert result.status == "ok"
    assert result.text.endswith("1.0 0\n")


def test_another_programs_entry_would_be_believed(start: Start, shared: Path) -> None:
    """Why nobody but the instructor's kernel may write here."""
    fill(start, shared, "first")
    code = COMPILE.format(name="other").replace("x * 2 + 1", "x * 0 + 42")
    with cache.filling(shared) as new:
        kernel = start(SandboxProvisioner={"fill": str(new)})
        kernel.run(code)
        kernel.stop()
    entry(shared, "first").write_bytes(entry(shared, "other").read_bytes())
    assert start().run(COMPILE.format(name="first")).text == "42.0 1\n"


def test_entries_are_published_whole_and_never_changed(tmp_path: Path) -> None:
    new, shared = tmp_path / "new", tmp_path / "shared"
    new.mkdir()
    shared.mkdir()
    (new / "a-cache").write_bytes(b"new")
    (new / "b-cache").write_bytes(b"b")
    (new / "link-cache").symlink_to("/etc/hostname")
    (shared / "a-cache").write_bytes(b"old")
    assert cache.publish(new, shared) == 1
    assert {p.name: p.read_bytes() for p in shared.iterdir()} == {
        "a-cache": b"old",
        "b-cache": b"b",
    }


def test_another_processor_or_platform_has_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = cache.folder(tmp_path, "cpu")
    assert cache.folder(tmp_path, "cpu") == cpu
    assert cache.folder(tmp_path, "cuda") != cpu
    assert tmp_path.stat().st_mode & 0o777 == 0o700 or cpu.parent == tmp_path
