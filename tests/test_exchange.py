"""Collecting: what a student puts into the exchange is not followed anywhere."""

from collections.abc import Callable

from tests.conftest import DOUBLE, Course


def test_links_are_not_collected(new_course: Callable[[], Course]) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps", "release_assignment ps")
    inbound = course.root / "exchange" / "jax" / "inbound"
    source = course.root / "source" / "ps" / "p.ipynb"
    for student in ("honest", "linker"):
        folder = inbound / f"{student}+ps+2026-01-01 10:00:00 UTC+x"
        folder.mkdir()
        (folder / "timestamp.txt").write_text("2026-01-01 10:00:00 UTC")
        if student == "honest":
            (folder / "p.ipynb").write_text(source.read_text())
        else:
            (folder / "p.ipynb").symlink_to(source)
    (done,) = course.nbgrader("collect ps --ExchangeCollect.check_owner=False")
    assert done.status == 0
    assert "linker+ps+2026-01-01 10:00:00 UTC+x is not collected: p.ipynb" in done.log
    assert (course.root / "submitted" / "honest" / "ps" / "p.ipynb").exists()
    assert not (course.root / "submitted" / "linker").exists()
