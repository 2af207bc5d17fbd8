"""Folders as bytes, and folders that change places."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from jaxgrader.archives import exchange, move, pack, unpack
from jaxgrader.errors import SubmissionError


def fill(folder: Path, text: str = "a") -> Path:
    (folder / "in").mkdir(parents=True)
    (folder / "p.ipynb").write_text(text)
    (folder / "in" / "data.bin").write_bytes(b"\0\1")
    return folder


def test_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one"), fill(tmp_path / "other")
    os.utime(other / "p.ipynb", (1, 1))
    (other / "p.ipynb").chmod(0o444)
    assert pack(one) == pack(other)
    assert pack(fill(tmp_path / "third", "b")) != pack(one)


def test_there_and_back(tmp_path: Path) -> None:
    unpack(pack(fill(tmp_path / "one")), tmp_path / "two")
    assert (tmp_path / "two" / "in" / "data.bin").read_bytes() == b"\0\1"


@pytest.mark.parametrize("target", ["/etc/passwd", "nowhere", "p.ipynb"])
def test_links_are_refused(tmp_path: Path, target: str) -> None:
    folder = fill(tmp_path / "one")
    (folder / "in" / "link").symlink_to(target)
    with pytest.raises(SubmissionError, match="in/link is a symbolic link"):
        pack(folder)


def test_a_pipe_is_refused_and_not_read(tmp_path: Path) -> None:
    folder = fill(tmp_path / "one")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SubmissionError, match="pipe is no plain file"):
        pack(folder)


def test_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = fill(tmp_path / "one")
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(SubmissionError, match="need 1099511627"):
        pack(folder, limit=1 << 20)


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../out"))
        with pytest.raises(SubmissionError, match="cannot be unpacked"):
            unpack(file.getvalue(), tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_move_replaces_a_folder(tmp_path: Path) -> None:
    new, old = fill(tmp_path / "new", "new"), fill(tmp_path / "old", "old")
    (old / "left-over").touch()
    move(new, old)
    assert (old / "p.ipynb").read_text() == "new"
    assert not (old / "left-over").exists()
    assert not new.exists()


def test_move_makes_the_way(tmp_path: Path) -> None:
    move(fill(tmp_path / "new"), tmp_path / "student" / "ps")
    assert (tmp_path / "student" / "ps" / "p.ipynb").exists()


def test_folders_change_places_in_one_step(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one", "1"), fill(tmp_path / "other", "2")
    assert exchange(one, other), "this file system cannot"
    assert (one / "p.ipynb").read_text() == "2"
    assert not exchange(one, tmp_path / "nowhere")
