"""Kernels under attack, for root and for an ordinary user: every test runs for both."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.attacks import persons
from tests.attacks.persons import Kernel, Kernels, Person


@pytest.fixture(scope="session")
def people() -> Iterator[Callable[[str], Person]]:
    """Bring somebody to life when first asked for; all tests meet the same."""
    known: dict[str, Person] = {}
    with ExitStack() as lives:

        def meet(name: str) -> Person:
            if name not in known:
                known[name] = lives.enter_context(persons.person(name))
            return known[name]

        yield meet


@pytest.fixture(scope="module", params=["root", "user"])
def person(request: pytest.FixtureRequest, people: Callable[[str], Person]) -> Person:
    """Who runs the client and the fork server."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root can test what root's kernels can do")
    return people(request.param)


@pytest.fixture
def start(person: Person) -> Iterator[Kernels]:
    """Return a function that starts a kernel: ``start(files="own", Limits={…})``."""
    kernels = Kernels(person)
    yield kernels
    kernels.close()


@pytest.fixture(scope="module")
def pool(person: Person) -> Iterator[Kernels]:
    """Starts kernels that a module's tests share."""
    kernels = Kernels(person)
    yield kernels
    kernels.close()


@pytest.fixture
def kernel(pool: Kernels) -> Kernel:
    """A kernel for attacks that are refused, and so change nothing."""
    return pool.share("copy")


@pytest.fixture
def own(pool: Kernels) -> Kernel:
    """A kernel that works in its student's own folder."""
    return pool.share("own", "own")


@pytest.fixture(params=["copy", "own"])
def either(request: pytest.FixtureRequest, pool: Kernels) -> Kernel:
    """One kernel of each kind."""
    return pool.share(request.param, request.param)
