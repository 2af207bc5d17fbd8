"""JupyterLab servers on loopback, and Debian's Chromium."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from jaxgrader.lab.install import install
from tests.conftest import BARE, CLONE

#: Chromium would look for updates and accounts; there is nobody to answer.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
]
ARTIFACTS = CLONE / "artifacts" / "browser"


@contextmanager
def jupyter_lab(
    root: Path, home: Path, *more: str, port: int = 0, token: str | None = None
) -> Iterator[str]:
    """Run JupyterLab on `root` for one person; yield its address, token included.

    Its panel is the working tree's. `more` are options, and settings in `home/settings`
    count. A port and a token make it the same server again, once it has ended.
    """
    token = token or secrets.token_hex(16)
    home.mkdir(parents=True, exist_ok=True)
    install(str(home / "panel"), user=False)
    found = [home / "settings", home / "panel" / "etc" / "jupyter"]
    paths = {
        "JUPYTER_PATH": str(home / "panel" / "share" / "jupyter"),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(map(str, found)),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    options = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", *more]
    with ExitStack() as cleanup:
        log = cleanup.enter_context((home / "lab.log").open("w"))
        server = subprocess.Popen(
            [*command, *options],
            cwd=root,
            env={**BARE, **paths, "HOME": str(home), "JUPYTER_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        cleanup.enter_context(server)
        cleanup.callback(stop, server)
        assert server.stdout is not None
        for line in server.stdout:
            log.write(line)
            if match := re.search(r"(http://127\.0\.0\.1:\d+)/lab", line):
                break
        else:
            raise RuntimeError(f"JupyterLab did not start: see {home}/lab.log")
        wait_for(match[1], server)
        keep = threading.Thread(target=lambda: log.writelines(server.stdout or []))
        keep.start()
        cleanup.callback(keep.join)
        cleanup.callback(stop, server)
        yield f"{match[1]}/lab?reset&token={token}"


def stop(server: subprocess.Popen[str]) -> None:
    """End a server. It can miss a signal that comes while it writes to its log."""
    while server.poll() is None:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)


def wait_for(address: str, server: subprocess.Popen[str]) -> None:
    """Return when the server listens: it prints its address just before."""
    url = urlsplit(address)
    while server.poll() is None:
        with suppress(ConnectionRefusedError):
            socket.create_connection((url.hostname, url.port or 80)).close()
            return


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium, without a sandbox of its own where root runs it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "no Chromium here: run `make test`, which installs it"
    root = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=[*QUIET, *root]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shoot() -> Callable[[Page, str], None]:
    """Return a function that keeps a screenshot among the CI artefacts."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)

    def shoot(page: Page, name: str) -> None:
        page.screenshot(path=ARTIFACTS / f"{name}.png")

    return shoot


#: How people look at a page: a telephone, a large screen, by day and by night.
VIEWS = [(360, "light"), (360, "dark"), (1600, "light"), (1600, "dark")]


@contextmanager
def opened(browser: Browser, file: Path, view: tuple[int, str]) -> Iterator[Page]:
    """A page from disk; it asks for nothing, and nothing is complained of."""
    width, scheme = view
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: requests.append(asked.url))
    page.goto(file.as_uri())
    yield page
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
    page.close()
