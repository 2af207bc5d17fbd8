"""A cluster of three hosts: own network addresses, own disks, mutual TLS."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import nbformat
import pytest

from tests.conftest import BARE, DOUBLE, Course, nbgrader_cell, notebook_of
from tests.test_autograde import COUNTING, RIGHT, write_answer

CLONE = Path(__file__).parent.parent.parent
PROGRAMS = Path(sys.executable).parent
#: The network of this test process; others run theirs at the same time.
NET = f"10.99.{100 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])}"
BRIDGE = f"jg{os.getpid() % 100000}"


class Host:
    """A machine of the cluster, as far as this one can play it.

    Where networks can be made it has an address of its own in one, and sees nothing
    where the course is; for an ordinary user it is a process with other folders.
    """

    def __init__(self, number: int, folder: Path, hidden: Path, stack: ExitStack):
        self.folder = folder / f"host{number}"
        self.folder.mkdir()
        self.hidden, self.stack = hidden, stack
        self.address = f"{NET}.{number + 1}" if has_networks() else "127.0.0.1"
        self.name = f"{BRIDGE}-{number}"
        if has_networks():
            self.add_network(number)

    def add_network(self, number: int) -> None:
        ip("netns", "add", self.name)
        self.stack.callback(ip, "netns", "delete", self.name)
        ends = f"{BRIDGE}v{number}", "eth0"
        ip("link", "add", ends[0], "type", "veth", "peer", ends[1], "netns", self.name)
        ip("link", "set", ends[0], "master", BRIDGE, "up")
        inside = ("-n", self.name)
        ip(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip(*inside, "link", "set", "eth0", "up")
        ip(*inside, "link", "set", "lo", "up")

    def start(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        """Start a program of this environment there."""
        command = [str(PROGRAMS / words[0]), *words[1:]]
        if has_networks():
            hide = 'mount -t tmpfs none "$0" && exec "$@"'
            private = ["unshare", "--mount", "sh", "-c", hide, str(self.hidden)]
            command = ["ip", "netns", "exec", self.name, *private, *command]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={
                **BARE,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(self.folder),
                "TMPDIR": str(self.folder),
                "JAXGRADER_RUNTIME_DIR": str(self.folder),
                "JAXGRADER_CACHE_DIR": str(self.folder / "cache"),
                **env,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(end, process)
        return process


@functools.cache
def has_networks() -> bool:
    """Whether this user may make networks and hide folders here: root, mostly."""
    probe = f"{BRIDGE}-probe"
    commands = (
        ("ip", "netns", "add", probe),
        ("ip", "-n", probe, "link", "add", "b", "type", "bridge"),
        ("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"),
        ("ip", "netns", "delete", probe),
    )
    return all(
        subprocess.run(command, capture_output=True, check=False).returncode == 0
        for command in commands
    )


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def wait_for(process: "subprocess.Popen[str]", words: str) -> str:
    """Wait until a program logs some words; return the line."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError("".join(seen))


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, folder: Path, hidden: Path, stack: ExitStack) -> None:
        self.tls = folder / "tls"
        subprocess.run([CLONE / "deploy" / "certificates", self.tls], check=True)
        text = (CLONE / "deploy" / "dask.yaml").read_text()
        self.config = folder / "dask.yaml"
        self.config.write_text(text.replace("/etc/jaxgrader/tls", str(self.tls)))
        if has_networks():
            ip("link", "add", BRIDGE, "type", "bridge")
            stack.callback(ip, "link", "delete", BRIDGE)
            ip("address", "add", f"{NET}.254/24", "dev", BRIDGE)
            ip("link", "set", BRIDGE, "up")
        self.hosts = [Host(number, folder, hidden, stack) for number in range(4)]
        head = self.hosts[0]
        words = ("--protocol", "tls", "--port", "0", "--no-dashboard")
        scheduler = head.start(
            "dask", "scheduler", "--host", head.address, *words, **self.env
        )
        line = wait_for(scheduler, "Scheduler at:")
        self.address = line.split()[-1]
        self.workers = [self.add(host) for host in self.hosts[1:3]]

    @property
    def env(self) -> dict[str, str]:
        return {"DASK_CONFIG": str(self.config)}

    def add(self, host: Host, **env: str) -> "subprocess.Popen[str]":
        """Start a worker on a host."""
        words = ("--nthreads", "1", "--no-dashboard", "--no-nanny")
        worker = host.start(
            "dask",
            "worker",
            self.address,
            "--host",
            host.address,
            *words,
            **{**self.env, **env},
        )
        wait_for(worker, "Registered to:")
        return worker

    def command(self, *more: str, address: str = "") -> list[str]:
        files = [
            f"--tls-{name}={self.tls / file}"
            for name, file in {
                "ca": "ca.pem",
                "cert": "client.pem",
                "key": "client.key",
            }.items()
        ]
        where = ["--executor=dask", f"--scheduler={address or self.address}"]
        program = str(PROGRAMS / "jaxgrader")
        return [program, "autograde", *where, *files, "--json", *more]


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    """A class of eight."""
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    for number in range(8):
        folder = course.hand_out("ps", f"s{number}")
        answer = RIGHT if number % 2 else "def double(x):\n    return 4"
        write_answer(folder / "p.ipynb", answer)
    return course


@pytest.fixture(scope="module")
def cluster(course: Course) -> Iterator[Cluster]:
    with ExitStack() as stack:
        # Short paths, for sockets; and not where the course is hidden.
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="jgc-"))
        yield Cluster(Path(name), course.root, stack)


def grade(
    cluster: Cluster, course: Course, *more: str, address: str = ""
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        cluster.command(*more, address=address),
        cwd=course.root,
        env={**BARE, "HOME": str(course.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_scores(course: Course) -> None:
    """What the same class gets on one machine."""
    for number in range(8):
        hidden = 3 if number % 2 else 0
        scores = {"test_visible": 2, "test_hidden": hidden}
        assert course.scores(f"s{number}", "ps") == scores


def test_scores_are_those_of_one_machine(cluster: Cluster, course: Course) -> None:
    with grade(cluster, course) as running:
        out, log = running.communicate()
    assert running.returncode == 0, log
    assert {json.loads(line)["state"] for line in out.splitlines()} == {"graded"}
    check_scores(course)
    hosts = "SELECT DISTINCT log FROM jaxgrader_ledger"
    assert course.query(hosts)


def test_another_version_is_refused_by_name(cluster: Cluster, course: Course) -> None:
    other = cluster.hosts[3].folder / "other"
    shutil.copytree(CLONE / "jaxgrader", other / "jaxgrader")
    with (other / "jaxgrader" / "verdicts.py").open("a") as file:
        file.write("\n# Everybody passes.\n")
    # It joins while no batch runs, so nobody could have refused it at its start.
    worker = cluster.add(cluster.hosts[3], PYTHONPATH=str(other))
    with grade(cluster, course, "--force", "--student=s1") as running:
        _, log = running.communicate()
    assert running.returncode == 0, log
    assert f"The worker at tls://{cluster.hosts[3].address}:" in log
    assert "instead of" in log
    worker.wait(60)


def test_a_host_that_dies_loses_nothing(cluster: Cluster, course: Course) -> None:
    with grade(cluster, course, "--force") as running:
        assert running.stdout is not None
        running.stdout.readline()
        cluster.workers[0].send_signal(signal.SIGKILL)
        out, log = running.communicate()
    assert running.returncode == 0, log
    assert len(out.splitlines()) == 7
    check_scores(course)


def test_a_workers_checker_serves_more_than_one_job(
    cluster: Cluster, new_course: Callable[[], Course]
) -> None:
    """Dask calls each job in a context, and so in an event loop, of its own."""
    course = new_course()
    counting = nbgrader_cell("test", "counting", COUNTING, 1)
    course.write_source("count", "p", notebook_of(counting))
    course.nbgrader("generate_assignment count")
    for number in range(5):
        course.hand_out("count", f"s{number}")
    with grade(cluster, course) as running:
        _, log = running.communicate()
    assert running.returncode == 0, log
    counted = [
        nbformat.read(path, as_version=4).cells[0].outputs[0].text
        for path in (course.root / "autograded").rglob("*.ipynb")
    ]
    assert len(counted) == 5
    assert max(counted) >= "2\n"


def test_workers_of_one_host_divide_its_processors(
    cluster: Cluster, course: Course
) -> None:
    host = cluster.hosts[3]
    pair = [cluster.add(host), cluster.add(host)]
    with grade(cluster, course, "--force", "--student=s1") as running:
        _, log = running.communicate()
    assert running.returncode == 0, log
    shares = [os.sched_getaffinity(worker.pid) for worker in pair]
    here = os.sched_getaffinity(0)
    if has_networks() and len(here) > 1:
        assert not shares[0] & shares[1]
    assert all(len(share) <= max(1, len(here) // 2) for share in shares)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tcp://head:8786", "head"])
def test_a_cluster_without_tls_is_refused(
    cluster: Cluster, course: Course, address: str
) -> None:
    with grade(cluster, course, "--force", address=address) as running:
        _, log = running.communicate()
    assert running.returncode == 1
    assert "without TLS, whoever reaches a Dask scheduler runs code" in log
