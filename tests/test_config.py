"""nbgrader_config.py: one page, with two settings from the environment."""

from collections.abc import Callable
from pathlib import Path

from demo.commands import Finished
from tests.conftest import CLONE, DOUBLE, Course


def test_it_is_one_page() -> None:
    assert len((CLONE / "nbgrader_config.py").read_text().splitlines()) <= 80


def test_gradebook_and_exchange_lie_in_the_course(
    new_course: Callable[[], Course],
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps", "release_assignment ps")
    assert course.query("SELECT name FROM assignment") == [("ps",)]
    assert (course.root / "exchange" / "jax" / "outbound" / "ps" / "p.ipynb").exists()


def test_gradebook_and_exchange_from_the_environment(
    new_course: Callable[[], Course], tmp_path: Path
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    env = {
        "JAXGRADER_DB_URL": f"sqlite:///{tmp_path}/elsewhere.db",
        "JAXGRADER_EXCHANGE": str(tmp_path / "exchange"),
    }
    for done in course.nbgrader(
        "generate_assignment ps", "release_assignment ps", env=env
    ):
        assert done.status == 0, done.log
    assert (tmp_path / "elsewhere.db").exists()
    assert (tmp_path / "exchange" / "jax" / "outbound" / "ps" / "p.ipynb").exists()
    assert not (course.root / "gradebook.db").exists()
    assert not (course.root / "exchange").exists()


def test_platform_that_jax_does_not_know(new_course: Callable[[], Course]) -> None:
    done = autograde_on(new_course(), "abacus")
    assert "'cpu', 'cuda', 'gpu', 'tpu'" in done.log


def test_platform_that_is_not_there(new_course: Callable[[], Course]) -> None:
    # This environment has no libtpu, on whatever machine the tests run.
    course = new_course()
    done = autograde_on(course, "tpu")
    assert "c.Sandbox.platform is 'tpu', but this machine has no" in done.log
    assert 'c.Sandbox.platform = "cpu"' in done.log
    assert set(course.scores("someone", "ps").values()) == {None}


def autograde_on(course: Course, platform: str) -> Finished:
    """Autograde a submission on a platform that must make the command fail."""
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    course.hand_out("ps", "someone")
    (done,) = course.nbgrader(f"autograde ps --Sandbox.platform={platform}")
    assert done.status == 1
    return done
