# ruff: noqa: S103, S108 - sockets in /tmp are among the targets, open to all
"""Attacks over sockets: the loopback interface, Unix sockets, other families."""

import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.persons import Kernel, Kernels, Person


def reach(family: int, kind: int, address: list[object] | str) -> None:
    """Connect, and say something."""
    import socket

    with socket.socket(family, kind) as one:
        one.connect(address if isinstance(address, str) else tuple(address))
        one.send(b"hello")


@dataclass
class Bait:
    """Somebody who listens on this machine."""

    listener: socket.socket
    address: list[object] | str

    def was_reached(self) -> bool:
        try:
            if self.listener.type == socket.SOCK_DGRAM:
                self.listener.recv(100)
            else:
                self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def arguments(self) -> tuple[int, int, list[object] | str]:
        return int(self.listener.family), int(self.listener.type), self.address


#: By kind: family, whether datagrams, and address.
BAITS: dict[str, tuple[socket.AddressFamily, bool, tuple[str, int] | str]] = {
    "TCP": (socket.AF_INET, False, ("127.0.0.1", 0)),
    "TCP6": (socket.AF_INET6, False, ("::1", 0)),
    "UDP": (socket.AF_INET, True, ("127.0.0.1", 0)),
    "abstract": (socket.AF_UNIX, False, "\0{folder}"),
    "abstract datagrams": (socket.AF_UNIX, True, "\0{folder}"),
    "file": (socket.AF_UNIX, False, "{folder}/listener"),
    "file datagrams": (socket.AF_UNIX, True, "{folder}/listener"),
}


def make_bait(kind: str, folder: str) -> Bait:
    family, datagrams, name = BAITS[kind]
    if isinstance(name, str):
        name = name.format(folder=folder)
    listener = socket.socket(
        family, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    )
    listener.bind(name)
    listener.setblocking(False)
    if not datagrams:
        listener.listen()
    if kind.startswith("file"):
        os.chmod(f"{folder}/listener", 0o777)
    bound = listener.getsockname()
    if isinstance(bound, bytes):
        return Bait(listener, bound.decode())
    return Bait(listener, bound if isinstance(bound, str) else list(bound))


def baits() -> Iterator[Bait]:
    """Yield one of each kind that this machine knows."""
    for kind in BAITS:
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="jg-") as folder:
            os.chmod(folder, 0o755)
            try:
                bait = make_bait(kind, folder)
            except OSError:
                if kind != "TCP6":  # the one that may be missing
                    raise
                continue
            with bait.listener:
                yield bait


def test_connecting(person: Person, either: Kernel) -> None:
    for bait in baits():
        person.call(reach, *bait.arguments())
        assert bait.was_reached()
        either.refuses(reach, *bait.arguments())
        assert not bait.was_reached()


UNIX = (int(socket.AF_UNIX), int(socket.SOCK_STREAM))


def send_from_pair(address: str) -> None:
    """Send a datagram from a socket that was connected when it was made."""
    import socket

    for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        one.sendmsg([b"hello"], [], 0, address)


def test_connecting_to_the_fork_server(person: Person, either: Kernel) -> None:
    """Who could, would start kernels with whatever rights."""
    path = str(either.sockets.parent.parent / "control")
    person.call(reach, *UNIX, path)
    either.cannot(reach, [(*UNIX, path), (*UNIX, "/run/jaxgrader/control")])


FAMILIES = {
    "INET": 2,
    "INET6": 10,
    "NETLINK": 16,
    "PACKET": 17,
    "CAN": 29,
    "BLUETOOTH": 31,
    "ALG": 38,
    "VSOCK": 40,
    "XDP": 44,
}


def make_socket(family: int, kind: int) -> None:
    import socket

    socket.socket(family, kind).close()


def test_other_families(either: Kernel) -> None:
    kinds = (1, 2, 3, 5)  # streams, datagrams, raw, packets in sequence
    families = FAMILIES.values()
    either.cannot(make_socket, [(one, kind) for one in families for kind in kinds])


def test_the_families_are_real(person: Person, kernel: Kernel) -> None:
    person.call(make_socket, int(socket.AF_INET), 1)
    person.call(make_socket, int(socket.AF_NETLINK), 3)
    kernel.call(make_socket, int(socket.AF_UNIX), 1)


def visible_sockets(folders: list[str]) -> list[str]:
    import os
    import stat

    paths = [
        os.path.join(folder, name)
        for top in folders
        for folder, _, files in os.walk(top)
        for name in files
    ]
    return [path for path in paths if stat.S_ISSOCK(os.lstat(path).st_mode)]


def test_no_socket_but_its_own_is_in_sight(person: Person, either: Kernel) -> None:
    tops = [
        "/run",
        "/var",
        "/tmp",
        "/dev",
        "/etc",
        "/home",
        "/scratch",
        str(person.run),
    ]
    tops += ["/run/kernel", "/run/jaxgrader/kernels", "/home/student", "/dev/shm"]
    found = either.call(visible_sockets, tops)
    own = {f"/run/kernel/s-{number}" for number in range(1, 6)}
    assert {path for path in found if not path.startswith("/tmp/.iopub")} == own


def listen(address: str) -> None:
    import socket

    global listener
    listener = socket.socket(socket.AF_UNIX)  # type: ignore[name-defined]
    listener.bind(address)  # type: ignore[name-defined]
    listener.listen()  # type: ignore[name-defined]


def test_another_kernel_s_sockets(
    person: Person, pool: Kernels, kernel: Kernel
) -> None:
    """Those that it has made, and those through which its client speaks."""
    other = pool.share("other")
    for address in ("/tmp/one", "\0one", "/run/kernel/one"):
        kernel.call(listen, address)
        kernel.call(reach, *UNIX, address)
        other.refuses(reach, *UNIX, address)
    path = str(kernel.sockets / "s-1")
    person.call(reach, *UNIX, path)
    seen_by_server = f"/run/jaxgrader/kernels/{kernel.sockets.name}/s-1"
    other.cannot(reach, [(*UNIX, path), (*UNIX, seen_by_server)])


def replace(how: str) -> None:
    """Put something else in the place of a socket to which the client connects."""
    import os

    path = "/run/kernel/s-1"
    if how == "unlink":
        os.unlink(path)
    elif how == "unlink at":
        os.unlink("s-1", dir_fd=os.open("/run/kernel", os.O_RDONLY))
    elif how == "rename":
        os.rename(path, "/run/kernel/s-6")
    elif how == "symlink":
        os.symlink("/etc/shadow", "/run/kernel/s-6")
    elif how == "mkdir":
        os.mkdir("/run/kernel/s-6")
    elif how == "mkfifo":
        os.mkfifo("/run/kernel/s-6")
    else:
        if not os.path.lexists("/scratch/s-1"):
            os.symlink("/etc/shadow", "/scratch/s-1")
        (os.rename if how == "rename in" else os.link)("/scratch/s-1", path)


HOWS = [
    "unlink",
    "unlink at",
    "rename",
    "symlink",
    "mkdir",
    "mkfifo",
    "rename in",
    "link in",
]


def test_replacing_its_own_sockets(either: Kernel) -> None:
    """The client follows what lies there."""
    before = sorted(Path(either.sockets).iterdir())
    either.cannot(replace, [(how,) for how in HOWS])
    assert sorted(Path(either.sockets).iterdir()) == before


def test_shutting_the_door_behind_it(start: Kernels) -> None:
    """A folder that cannot be listed must go all the same."""
    kernel = start()
    assert kernel.run("import os; os.chmod('/run/kernel', 0)").status == "ok"
    kernel.stop()
    assert kernel.vanishes()
