"""JupyterLab servers on loopback, and Debian's Chromium."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
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
#: JupyterLab would ask about news, in a corner of the page.
NOTIFICATIONS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
ARTIFACTS = CLONE / "artifacts" / "browser"

#: What servers write, and what pages complain of: a failure's report ends with it.
LOGS: list[Path] = []
HEARD: list[str] = []
#: The first failure of each module.
FAILED: dict[Path, str] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what was heard to a failure; remember it for the steps that follow."""
    report = yield
    if report.failed:
        report.sections.append(("pages and servers", "\n".join(evidence())))
        FAILED.setdefault(item.path, item.name)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A step that builds on one that failed need not wait for what will not come."""
    failed = FAILED.get(item.path)
    if failed and item.get_closest_marker("steps"):
        pytest.fail(f"not tried, since {failed} failed", pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what needed a second try, though the tests passed."""
    for line in HEARD:
        if line.startswith("second try"):
            terminalreporter.write_line(line)


def evidence() -> list[str]:
    """Return the last lines of each server's log, and of what pages said."""
    lines = HEARD[-20:]
    for log in LOGS:
        if log.exists():
            lines += [f"-- {log}", *log.read_text().splitlines()[-12:]]
    return [line[:300] for line in lines]


def listen(page: Page) -> Page:
    """Hear a page's complaints, failed requests and moves."""

    def hear(kind: str, what: object) -> None:
        HEARD.append(f"{kind}: {what}")

    page.on("pageerror", lambda error: hear("error", error))
    page.on("requestfailed", lambda asked: hear(f"lost ({asked.failure})", asked.url))
    page.on("framenavigated", lambda frame: hear("moved to", frame.url))
    page.on(
        "response",
        lambda got: hear(str(got.status), got.url) if got.status >= 400 else None,
    )
    return page


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
    quiet = home / ".jupyter" / "lab" / "user-settings" / NOTIFICATIONS
    quiet.parent.mkdir(parents=True, exist_ok=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    found = [home / "settings", home / "panel" / "etc" / "jupyter"]
    paths = {
        "JUPYTER_PATH": str(home / "panel" / "share" / "jupyter"),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(map(str, found)),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    options = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", *more]
    with ExitStack() as cleanup:
        log = cleanup.enter_context((home / "lab.log").open("w", buffering=1))
        LOGS.append(home / "lab.log")
        cleanup.callback(LOGS.remove, home / "lab.log")
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
        yield f"{match[1]}/lab?token={token}"


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
