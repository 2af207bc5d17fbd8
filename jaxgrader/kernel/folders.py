"""Remove a folder, whatever those who had it have done to it.

What it is: the end of a kernel's folder of sockets, and of all that lies below it at
level basic. What it is not: for folders that a living process can still change.
"""

import os
import stat
from pathlib import Path


def remove(top: Path) -> None:
    """Remove a folder, however deep it is and whatever modes are in it.

    It goes down and up by one step at a time: no path is too long, no call too deep.
    """
    os.chmod(top, 0o700)
    folder = os.open(top, os.O_DIRECTORY)
    way: list[tuple[str, list[str]]] = []
    inner = remove_files(folder)
    while inner or way:
        if inner:
            os.chmod(name := inner.pop(), 0o700, dir_fd=folder)
            way.append((name, inner))
            folder = step(folder, name)
            inner = remove_files(folder)
        else:
            folder = step(folder, "..")
            name, inner = way.pop()
            os.rmdir(name, dir_fd=folder)
    os.close(folder)
    os.rmdir(top)


def remove_files(folder: int) -> list[str]:
    """Remove what lies in an open folder; return the names of the folders in it."""
    inner = []
    for name in os.listdir(folder):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            inner.append(name)
        else:
            os.unlink(name, dir_fd=folder)
    return inner


def step(folder: int, name: str) -> int:
    """Close an open folder; return another one, named as seen from there."""
    try:
        return os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
