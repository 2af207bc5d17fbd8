"""Attacks on the compilation cache: what is in it changes everybody's results."""

import os
from pathlib import Path

import pytest

from tests.attacks.persons import Kernel, Kernels, Person

OWN = "/var/cache/jaxgrader"
#: Where a strict jail shows everybody's entries.
SHARED = "/var/lib/jaxgrader/cache"
#: Compile a function; print its value, and how many programs came from the cache.
COMPILE = """
import jax
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
zero = jax.numpy.float32(0)
hits.clear()
def course(x):
    return x * 2 + 1
print(float(jax.jit(course)(zero)), len(hits))
"""


def publish(new: str) -> str:
    """Put what an instructor's kernel has compiled where all kernels find it."""
    from pathlib import Path

    from jaxgrader.kernel import cache, servers

    shared = servers.shared_cache("cpu")
    cache.publish(Path(new), shared)
    (entry,) = shared.glob("jit_course-*-cache")
    return str(entry)


@pytest.fixture(scope="module")
def published(person: Person, pool: Kernels) -> Path:
    """The entry of a function that the instructor has compiled."""
    new = person.root / "new"
    new.mkdir()
    os.chown(new, person.uid, person.uid)
    kernel = pool(SandboxProvisioner={"fill": str(new)})
    assert kernel.run(COMPILE).text == "1.0 0\n"
    kernel.stop()
    return Path(person.call(publish, str(new)))


@pytest.fixture
def entry(published: Path) -> Path:
    """The same, whole again."""
    content = published.with_suffix(".whole")
    if not content.exists():
        content.write_bytes(published.read_bytes())
    published.write_bytes(content.read_bytes())
    return published


def test_the_cache_is_used(start: Kernels, entry: Path) -> None:
    assert start().run(COMPILE).text == "1.0 1\n"


def poison(path: str, how: str) -> None:
    """Change an entry, or what its folder holds."""
    import os
    import tempfile

    if how == "link":
        own = tempfile.mkdtemp(dir=os.environ["JAX_COMPILATION_CACHE_DIR"])
        link = os.path.join(own, "link")
        os.symlink(path, link)
        path = link
    elif how == "beside":
        path = f"{path}-2"
    elif how == "remove":
        os.unlink(path)
    elif how == "rename":
        os.rename(path, f"{path}-2")
    with open(path, "r+b" if how != "beside" else "wb") as file:
        file.truncate(10)


HOWS = ["write", "link", "beside", "remove", "rename"]


def test_poison(either: Kernel, entry: Path) -> None:
    before = {path: path.read_bytes() for path in entry.parent.iterdir()}
    paths = [str(entry), f"{SHARED}/{entry.name}"]
    either.cannot(poison, [(path, how) for path in paths for how in HOWS])
    assert {path: path.read_bytes() for path in entry.parent.iterdir()} == before


def test_poison_without_namespaces(pool: Kernels, entry: Path) -> None:
    """There the entries have their own path, and Landlock alone keeps them."""
    basic = pool.share("basic", "copy", Sandbox={"level": "basic"})
    before = {path: path.read_bytes() for path in entry.parent.iterdir()}
    assert basic.run(f"print(len(open('{entry}', 'rb').read()))").status == "ok"
    basic.cannot(poison, [(str(entry), how) for how in HOWS])
    assert {path: path.read_bytes() for path in entry.parent.iterdir()} == before


def test_poison_in_a_folder_of_its_own(start: Kernels, entry: Path) -> None:
    """A kernel may deceive itself, and nobody else."""
    kernel = start()
    code = (
        f"open('{OWN}/{entry.name}', 'w').write('poison')\n"
        f"open('{OWN}/another', 'w').write('poison')"
    )
    assert kernel.run(code).status == "ok"
    assert kernel.run(COMPILE).text == "1.0 1\n"
    other = start()
    assert other.run(COMPILE).text == "1.0 1\n"
    assert "another" not in other.run(f"import os; print(os.listdir('{OWN}'))").text


@pytest.mark.parametrize("content", [b"", b"half", None, b"\x00" * 100_000])
def test_a_damaged_entry(start: Kernels, entry: Path, content: bytes | None) -> None:
    """A full disk may leave one behind."""
    entry.write_bytes(entry.read_bytes()[:-50] if content is None else content)
    result = start().run(COMPILE)
    assert result.status == "ok", result.text
    assert result.text.endswith("1.0 0\n")


def test_an_entry_that_leads_elsewhere(
    person: Person, start: Kernels, entry: Path
) -> None:
    """Only the instructor could place it; it does not show what it leads to."""
    link = entry.with_name("jit_link-0-cache")
    link.symlink_to(person.course / "gradebook.db")
    try:
        kernel = start()
        assert link.name in kernel.run(f"!ls {SHARED}").text
        assert kernel.run(f"open('{SHARED}/{link.name}').read()").status == "error"
    finally:
        link.unlink()
