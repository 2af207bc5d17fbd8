"""Folders as bytes that travel, and folders that change places in one step."""

import ctypes
import io
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from jaxgrader.errors import SubmissionError
from jaxgrader.exchange import find_link


def pack(folder: Path, limit: int | None = None) -> bytes:
    """Return the tar archive of a folder's plain files; the same files, the same bytes.

    Raises:
        SubmissionError: if they need more than `limit` bytes, before they are read; if
            there is a link; if one cannot be read.
    """
    paths = sorted(walk(folder))
    try:
        size = sum(path.lstat().st_size for path in paths)
        if limit is not None and size > limit:
            raise SubmissionError(TOO_LARGE.format(size=size, limit=limit))
        with io.BytesIO() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for path in paths:
                    add(archive, path, str(path.relative_to(folder)))
            return file.getvalue()
    except (OSError, ValueError) as error:
        why = f"its files cannot be read ({type(error).__name__}: {error})"
        raise SubmissionError(why) from None


def walk(folder: Path) -> list[Path]:
    """Return all files below a folder.

    Raises:
        SubmissionError: if one of them, or the folder itself, is a link or a device.
    """
    link = find_link(folder)
    if link is not None:
        raise SubmissionError(LINK.format(path=link))
    found = [Path(where, name) for where, _, files in os.walk(folder) for name in files]
    for path in found:
        if not path.is_file():
            raise SubmissionError(NO_FILE.format(path=path.relative_to(folder)))
    return found


def add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file by its name and contents alone."""
    contents = path.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size = len(contents)
    archive.addfile(entry, io.BytesIO(contents))


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack an archive into a new folder.

    Raises:
        SubmissionError: if names in it lead out of the folder, or cannot be written.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as file:
            for entry in file:
                put(file, entry, folder)
    except (tarfile.TarError, ValueError) as error:
        why = f"its files cannot be unpacked ({type(error).__name__}: {error})"
        raise SubmissionError(why) from None


def make_durable(folder: Path, permissions: int) -> None:
    """Set the files' permissions, and wait until all of it is on the disk."""
    for where, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(where, name)
            sync(path)
            path.chmod(permissions)
        sync(Path(where))


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(staged: Path, place: Path) -> None:
    """Put a folder in the place of another one, in one step where Linux has one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        staged.rename(place)
    elif exchange(staged, place):
        shutil.rmtree(staged)
    else:
        aside = staged.with_name(f"{staged.name}-old")
        place.rename(aside)
        staged.rename(place)
        shutil.rmtree(aside)
    sync(place.parent)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at once; False where that is not possible."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    done = library.renameat2(here, os.fsencode(one), here, os.fsencode(other), swap)
    return bool(done == 0)


def put(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    """Write a file of an archive. (`extractall` is safe from Python 3.11.4 on only.)"""
    relative = PurePosixPath(entry.name)
    contents = archive.extractfile(entry) if entry.isreg() else None
    if contents is None or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{entry.name} is no plain file below the folder")
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents.read())


TOO_LARGE = (
    "its files need {size} bytes, and a kernel may have {limit}: remove what is not "
    "needed, or raise c.Limits.disk"
)
LINK = "{path} is a symbolic link"
NO_FILE = "{path} is no plain file"
