"""Devices are found where they are, and each serves one kernel at a time."""

import asyncio
import hashlib
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from jaxlib import xla_client

from jaxgrader.errors import CourseError, GraderError, PlatformError
from jaxgrader.kernel.devices import (
    CONFLICTING,
    PLATFORMS,
    Inventory,
    Leases,
    environment,
)

Child = subprocess.Popen[str]

GPUS = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps")


@pytest.fixture
def dev(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a /dev with these files."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "dev" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "dev"

    return make


def look(platform: str, dev: Path, **environ: str) -> Inventory:
    """Take an inventory on a machine that has every plugin."""
    return Inventory.of(platform, dev, environ, find=lambda name: name)


@pytest.mark.parametrize("word", ["gpu", "cuda"])
def test_gpus_are_the_numbered_files(dev: Callable[..., Path], word: str) -> None:
    folder = dev(*GPUS, "nvidia10", "nvidia2", "nvidia-modeset", "null")
    inventory = look(word, folder)
    assert inventory.platform == "cuda"
    assert inventory.devices == ("0", "1", "2", "3")
    assert [path.relative_to(folder).as_posix() for path in inventory.nodes] == [
        *("nvidia0", "nvidia1", "nvidia2", "nvidia10"),
        *("nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia-caps"),
    ]


def test_the_only_gpu_of_a_container_is_device_0(dev: Callable[..., Path]) -> None:
    folder = dev("nvidia3", "nvidiactl")
    assert look("gpu", folder, CUDA_VISIBLE_DEVICES="0").devices == ("0",)
    assert look("gpu", folder).nodes == (folder / "nvidia3", folder / "nvidiactl")


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        ("1", ("1",)),
        ("1, 0", ("1", "0")),
        ("1,1", ("1",)),
        ("0,-1,1", ("0",)),
        ("0,7,1", ("0",)),
        ("GPU-8932f937,MIG-GPU-8932f937/1/2", ("GPU-8932f937", "MIG-GPU-8932f937/1/2")),
    ],
)
def test_the_graders_own_restriction_holds(
    dev: Callable[..., Path], value: str, devices: tuple[str, ...]
) -> None:
    inventory = look("gpu", dev(*GPUS), CUDA_VISIBLE_DEVICES=value)
    assert inventory.devices == devices


def test_tpu_chips_are_accel_files_else_vfio_groups(dev: Callable[..., Path]) -> None:
    folder = dev("vfio/vfio", "vfio/4", "vfio/5")
    inventory = look("tpu", folder)
    assert inventory.devices == ("0", "1")
    assert set(inventory.nodes) == {folder / "vfio" / n for n in ("", "4", "5")}
    dev("accel0", "accel1", "accel2", "accel3")
    assert look("tpu", folder).devices == ("0", "1", "2", "3")
    assert look("tpu", folder, TPU_VISIBLE_CHIPS="2").devices == ("2",)


def test_the_cpu_needs_nothing(tmp_path: Path) -> None:
    assert Inventory.of("cpu", tmp_path) == Inventory("cpu", (), ())


@pytest.mark.parametrize(
    ("word", "looked_for"),
    [
        ("gpu", "{dev}/nvidia<number>"),
        ("tpu", "{dev}/accel<number> or {dev}/vfio/<number>"),
    ],
)
def test_a_machine_without_the_device(
    dev: Callable[..., Path], word: str, looked_for: str
) -> None:
    folder = dev("nvidiactl", "vfio/vfio", "accel/accel0", "null")
    with pytest.raises(PlatformError) as error:
        look(word, folder)
    text = str(error.value)
    assert f"platform is {word!r}" in text
    assert f"has no {looked_for.format(dev=folder)}." in text
    assert 'set `c.Sandbox.platform = "cpu"`' in text


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_devices_that_are_all_hidden(dev: Callable[..., Path], value: str) -> None:
    with pytest.raises(PlatformError, match=f"CUDA_VISIBLE_DEVICES={value} hides"):
        look("gpu", dev(*GPUS), CUDA_VISIBLE_DEVICES=value)


@pytest.mark.parametrize(
    ("word", "file", "plugins", "extra"),
    [
        ("gpu", "nvidia0", "jax_cuda13_plugin or jax_cuda12_plugin", "jax[cuda13]"),
        ("tpu", "accel0", "libtpu", "jax[tpu]"),
    ],
)
def test_a_device_without_its_plugin(
    dev: Callable[..., Path], word: str, file: str, plugins: str, extra: str
) -> None:
    with pytest.raises(PlatformError) as error:
        Inventory.of(word, dev(file), {}, find=lambda name: None)
    text = str(error.value)
    assert f"there is no {plugins} in {sys.prefix}." in text
    assert f'`pip install "{extra}"`' in text
    assert 'set `c.Sandbox.platform = "cpu"`' in text


@pytest.mark.parametrize("plugin", ["jax_cuda12_plugin", "jax_cuda13_plugin"])
def test_either_cuda_plugin_will_do(dev: Callable[..., Path], plugin: str) -> None:
    folder = dev("nvidia0")
    inventory = Inventory.of(
        "gpu", folder, {}, find=lambda name: name == plugin or None
    )
    assert inventory.devices == ("0",)


def test_plugins_are_looked_for_where_python_looks(dev: Callable[..., Path]) -> None:
    if find_spec("libtpu"):
        assert Inventory.of("tpu", dev("accel0"), {}).devices == ("0",)
    else:
        with pytest.raises(PlatformError, match="there is no libtpu"):
            Inventory.of("tpu", dev("accel0"), {})


def test_an_unknown_word(tmp_path: Path) -> None:
    with pytest.raises(
        CourseError, match="'npu', which is none of cpu, gpu, cuda, tpu"
    ):
        Inventory.of("npu", tmp_path)
    with pytest.raises(CourseError, match="'npu'"):
        environment("npu", "0", 0.5)


def test_the_environment_of_a_cpu_kernel() -> None:
    assert environment("cpu", None, 0.5) == {
        "JAX_PLATFORMS": "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }


def test_jaxlib_takes_the_environment_of_a_gpu_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = environment("gpu", "GPU-8932f937", 0.25)
    assert variables["JAX_PLATFORMS"] == "cuda"
    assert variables["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert variables["CUDA_VISIBLE_DEVICES"] == "GPU-8932f937"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = xla_client.generate_pjrt_gpu_plugin_options()
    assert options["memory_fraction"] == 0.25
    assert options["preallocate"] is False
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" in CONFLICTING
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    with pytest.raises(ValueError, match="Remove the latter"):
        xla_client.generate_pjrt_gpu_plugin_options()


def test_two_tpu_kernels_share_neither_chip_nor_port() -> None:
    one, two = (environment("tpu", chip, 0.5) for chip in ("0", "1"))
    assert one == {
        "JAX_PLATFORMS": "tpu,cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "TPU_VISIBLE_CHIPS": "0",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_PORT": "8476",
    }
    different = {name for name in one if one[name] != two[name]}
    assert different == {"TPU_VISIBLE_CHIPS", "TPU_PROCESS_PORT"}


@pytest.mark.parametrize("word", PLATFORMS)
def test_no_variable_conflicts_with_one_that_is_set(word: str) -> None:
    variables = environment(word, None if word == "cpu" else "0", 0.5)
    assert not variables.keys() & set(CONFLICTING)


@pytest.mark.parametrize(("word", "device"), [("cpu", "0"), ("gpu", None)])
def test_a_device_is_for_accelerators(word: str, device: str | None) -> None:
    with pytest.raises(ValueError, match="does not go with"):
        environment(word, device, 0.5)


def leases(folder: Path, *devices: str) -> Leases:
    return Leases(folder, Inventory("cuda", devices, ()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@contextmanager
def child(
    script: str, *args: object, pass_fds: tuple[int, ...] = ()
) -> Iterator[Child]:
    """Run a Python script for as long as the `with` lasts."""
    command = [sys.executable, "-c", IMPORTS + script, *map(str, args)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, pass_fds=pass_fds
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: Child) -> str:
    """Return the next line that a child prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


IMPORTS = """
import asyncio, os, socket, sys
from pathlib import Path
from jaxgrader.kernel.devices import Inventory, Leases
def leases(*devices):
    return Leases(Path(sys.argv[1]), Inventory("cuda", devices, ()))
"""

#: Hold a device till stdin ends.
HOLD = """
with leases("0").acquire() as lease:
    print(lease.device, flush=True)
    sys.stdin.read()
"""

#: Say when we stand in line; say what we got, and whether the file argv[2] was there.
WAIT = """
async def main():
    task = asyncio.create_task(leases("0", "1").wait())
    await asyncio.sleep(0)
    print("in line", flush=True)
    with await task as lease:
        print(lease.device, os.path.exists(sys.argv[2]), flush=True)
        sys.stdin.read()
asyncio.run(main())
"""

#: Receive a lease over the socket with the number argv[2], and keep it till stdin ends.
RECEIVE = """
guard = socket.socket(fileno=int(sys.argv[2]))
device, fds, flags, address = socket.recv_fds(guard, 9, 1)
print(device.decode(), flush=True)
sys.stdin.read()
"""


def test_two_leases_are_on_two_devices(folder: Path) -> None:
    ours, theirs = leases(folder, "0", "1"), leases(folder, "0", "1")
    with ours.acquire() as one, theirs.acquire() as two:
        assert {one.device, two.device} == {"0", "1"}
        assert ours.try_acquire() is None


def test_a_lease_is_a_lease_however_it_was_got(folder: Path) -> None:
    ours = leases(folder, "0", "1")
    one, two = ours.try_acquire(), ours.try_acquire()
    assert one is not None
    assert two is not None
    with one, two:
        assert {one.device, two.device} == {"0", "1"}
        assert ours.try_acquire() is None


def test_platforms_do_not_lease_each_others_devices(folder: Path) -> None:
    tpu = Leases(folder, Inventory("tpu", ("0",), ()))
    with leases(folder, "0").acquire(), tpu.acquire() as chip:
        assert chip.device == "0"


def test_the_third_waits_for_the_one_that_is_released(
    folder: Path, tmp_path: Path
) -> None:
    released = tmp_path / "released"
    ours = leases(folder, "0", "1")
    with ours.acquire() as zero, ours.acquire() as one:
        assert (zero.device, one.device) == ("0", "1")
        with child(WAIT, folder, released) as waiter:
            assert line(waiter) == "in line"
            released.touch()
            one.close()
            assert line(waiter) == "1 True"


def test_first_come_first_served(folder: Path, tmp_path: Path) -> None:
    ours = leases(folder, "0", "1")
    zero, one = ours.acquire(), ours.acquire()
    with zero, one, child(WAIT, folder, tmp_path) as first:
        assert line(first) == "in line"
        with child(WAIT, folder, tmp_path) as second:
            assert line(second) == "in line"
            zero.close()
            assert line(first) == "0 True"
            first.communicate()
            # The first one's device is free again, and the second one's turn is now.
            assert line(second) == "0 True"


def test_nobody_overtakes_those_who_wait(folder: Path) -> None:
    async def main() -> None:
        ours = leases(folder, "0")
        held = ours.acquire()
        waiter = asyncio.create_task(ours.wait())
        await asyncio.sleep(0)
        held.close()
        assert ours.try_acquire() is None
        (await waiter).close()
        with ours.acquire() as lease:
            assert lease.device == "0"

    asyncio.run(main())


def test_a_forgotten_lease_ends_and_python_says_so(folder: Path) -> None:
    with pytest.warns(ResourceWarning, match="unclosed"):
        leases(folder, "0").acquire()
    with leases(folder, "0").acquire() as lease:
        assert lease.device == "0"


def test_waiting_for_one_device_does_not_keep_another_from_others(folder: Path) -> None:
    async def main() -> None:
        with leases(folder, "0").acquire():
            waiter = asyncio.create_task(leases(folder, "0").wait())
            await asyncio.sleep(0)
            with leases(folder, "0", "1").acquire() as lease:
                assert lease.device == "1"
        (await waiter).close()

    asyncio.run(main())


def test_a_cancelled_waiter_leaves_nothing_behind(folder: Path) -> None:
    async def main() -> None:
        ours = leases(folder, "0")
        open_before = os.listdir("/proc/self/fd")
        held = ours.acquire()
        waiter = asyncio.create_task(ours.wait())
        await asyncio.sleep(0)
        held.close()
        # The device is free now, and the waiter has not seen it yet.
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert os.listdir("/proc/self/fd") == open_before
        with ours.acquire() as lease:
            assert lease.device == "0"

    asyncio.run(main())


def use(folder: Path, start: Barrier, rounds: int) -> None:
    """Lease a device again and again; fail if someone else has it at the same time."""
    start.wait()
    for _ in range(rounds):
        with leases(folder, "0", "1").acquire() as lease:
            marker = folder / f"marker-{lease.device}"
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            hashlib.pbkdf2_hmac("sha256", b"some", b"work", 20_000)
            marker.unlink()


def test_many_processes_never_share_a_device(folder: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(4)
    users = [spawn.Process(target=use, args=(folder, start, 5)) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert [user.exitcode for user in users] == [0] * 4


def test_a_killed_holder_frees_its_device(folder: Path) -> None:
    ours = leases(folder, "0")
    with child(HOLD, folder) as holder:
        assert line(holder) == "0"
        assert ours.try_acquire() is None
        holder.kill()
        holder.wait()
        with ours.acquire() as lease:
            assert lease.device == "0"


def test_a_killed_waiter_leaves_the_line(folder: Path, tmp_path: Path) -> None:
    ours = leases(folder, "0", "1")
    with (
        ours.acquire() as zero,
        ours.acquire(),
        child(WAIT, folder, tmp_path) as waiter,
    ):
        assert line(waiter) == "in line"
        waiter.kill()
        waiter.wait()
        zero.close()
        with ours.acquire() as lease:
            assert lease.device == "0"


def test_a_lease_goes_to_whom_it_is_sent(folder: Path) -> None:
    ours = leases(folder, "0")
    near, far = socket.socketpair()
    with (
        near,
        far,
        child(RECEIVE, folder, far.fileno(), pass_fds=(far.fileno(),)) as guard,
    ):
        lease = ours.try_acquire()
        assert lease is not None
        with lease:
            socket.send_fds(near, [lease.device.encode()], [lease.fd])
            assert line(guard) == "0"
        assert ours.try_acquire() is None
        guard.kill()
        guard.wait()
        with ours.acquire() as again:
            assert again.device == "0"


def test_closing_twice_is_no_fault(folder: Path) -> None:
    with leases(folder, "0").acquire() as lease:
        lease.close()


def test_everyone_may_use_the_files(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        leases(folder, "0", "MIG-GPU-8932f937/1/2").acquire().close()
    finally:
        os.umask(before)
    files = sorted(folder.iterdir())
    assert stat.filemode(folder.stat().st_mode) == "drwxrwxrwt"
    assert [stat.filemode(file.stat().st_mode) for file in files] == ["-rw-rw-rw-"] * 2
    assert [file.name for file in files] == [
        "cuda-0.lock",
        "cuda-MIG-GPU-8932f937%2F1%2F2.lock",
    ]


def test_links_in_the_place_of_locks_are_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "cuda-0.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GraderError, match=r"cuda-0\.lock cannot be opened \(Too many"):
        leases(folder, "0").acquire()
    assert not (tmp_path / "elsewhere").exists()
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(GraderError, match=r"link/cuda-1\.lock cannot be opened"):
        leases(link, "1").acquire()


def test_a_pipe_in_the_place_of_a_lock_stops_nobody(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "cuda-0.lock")
    with leases(folder, "0").acquire() as lease:
        assert lease.device == "0"


def test_a_folder_without_a_parent(tmp_path: Path) -> None:
    with pytest.raises(GraderError, match="No such file"):
        leases(tmp_path / "no" / "folder", "0").try_acquire()


def test_there_is_nothing_to_lease_on_the_cpu(folder: Path) -> None:
    with pytest.raises(ValueError, match="no device to lease on cpu"):
        Leases(folder, Inventory("cpu", (), ()))
