"""The panel's files: a wheel and `jaxgrader install` put them into the same places."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from jaxgrader import __version__
from tests.conftest import BARE, CLONE
from tests.test_cli import jaxgrader

FRONT = CLONE / "jaxgrader" / "lab" / "labextension"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_install_puts_what_a_wheel_would(tmp_path: Path) -> None:
    done = jaxgrader("install", "--prefix", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = tomllib.loads((CLONE / "pyproject.toml").read_text())
    shared = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert len(shared) == 2
    for source, target in shared.items():
        here, there = CLONE / source, tmp_path / target
        if here.is_dir():
            assert files(here) == files(there)
        else:
            assert here.read_bytes() == there.read_bytes()


def test_a_users_own_install_is_found(tmp_path: Path) -> None:
    done = jaxgrader("install", "--user", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    env = {**BARE, "HOME": str(tmp_path)}
    for what, line in (
        ("labextension", "jaxgrader v"),
        ("server extension", "enabled"),
    ):
        listed = subprocess.run(
            [sys.executable, "-m", "jupyter", *what.split(), "list"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert line in listed.stdout + listed.stderr
    data = tmp_path / ".local" / "share" / "jupyter"
    assert files(data / "labextensions" / "jaxgrader") == files(FRONT)
    enabled = tmp_path / ".jupyter" / "jupyter_server_config.d" / "jaxgrader.json"
    assert "jaxgrader.lab" in enabled.read_text()
    assert os.listdir(data / "kernels") == ["jax-sandboxed"]


def test_the_front_end_has_the_packages_version() -> None:
    assert json.loads((FRONT / "package.json").read_text())["version"] == __version__


def test_no_text_is_ever_parsed_as_a_page() -> None:
    for path in (FRONT / "static").glob("*.js"):
        text = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
            assert word not in text, path
