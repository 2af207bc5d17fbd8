"""A PostgreSQL server of one's own, on a Unix socket, which ends with its user."""

import contextlib
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Yield the address of a new, empty database. (Root runs it as nobody.)"""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    root = os.geteuid() == 0
    user = pwd.getpwnam("nobody").pw_uid if root else os.geteuid()
    with tempfile.TemporaryDirectory(prefix="jgpg-") as name:
        data = Path(name, "data")
        data.mkdir(mode=0o700)
        for path in (Path(name), data):
            os.chown(path, user, -1)

        def run(program: str, *words: str) -> None:
            command = [str(programs / program), "-D", str(data), *words]
            subprocess.run(
                command, check=True, user=user, cwd=name, stdout=subprocess.DEVNULL
            )

        run("initdb", "-U", "jax", "--auth=trust", "-E", "UTF8", "--no-sync")
        options = f"-k {name} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-w", "-l", f"{name}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://jax@/postgres?host={name}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
