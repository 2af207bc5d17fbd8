"""The program `jaxgrader`: where the rooms meet.

Its subcommands read the course's nbgrader_config.py, as nbgrader's do.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import make_ipkernel_cmd, write_kernel_spec
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.application import JupyterApp
from traitlets import Bool, Unicode

from jaxgrader import __version__, doctor
from jaxgrader.errors import GraderError
from jaxgrader.preprocessors import KERNEL, WarmCache


class Command(JupyterApp):
    """A subcommand; the course is the current directory."""

    version = __version__
    config_file_name = Unicode("nbgrader_config")


class InstallApp(Command):
    """Register the kernelspec."""

    name = "jaxgrader-install"
    description = (
        "Register the kernel 'JAX (sandboxed)' for this Python environment, so that "
        "nbgrader, JupyterLab and any other Jupyter client can start it."
    )
    user = Bool(False, help="Register it for this user, not for this environment.")
    user.tag(config=True)
    prefix = Unicode("", help="Register it below this prefix instead.").tag(config=True)
    aliases = {"prefix": "InstallApp.prefix"}  # noqa: RUF012
    flags = {"user": ({"InstallApp": {"user": True}}, user.help)}  # noqa: RUF012

    def start(self) -> None:
        super().start()
        spec = {**doctor.kernel_spec(), "argv": make_ipkernel_cmd()}
        with tempfile.TemporaryDirectory() as folder:
            path = write_kernel_spec(Path(folder, KERNEL), overrides=spec)
            prefix = None if self.user else self.prefix or sys.prefix
            target = KernelSpecManager().install_kernel_spec(
                path, KERNEL, user=self.user, prefix=prefix
            )
        print(f"Registered the kernel {spec['display_name']!r} in {target}")


class DoctorApp(Command):
    """Say what this machine gives."""

    name = "jaxgrader-doctor"
    description = (
        "Check what this machine gives, layer by layer, and say how to get what is "
        "missing. Ends with status 1 if c.Sandbox.level cannot be given."
    )

    def start(self) -> None:
        super().start()
        good = True
        for line in doctor.examine(self.config):
            good = good and (line.good or not line.needed)
            mark = "ok     " if line.good else "MISSING" if line.needed else "-      "
            print(f"{mark} {line.name}: {line.seen}", flush=True)
            if line.how and not line.good:
                print(f"        {line.how}")
        self.exit(0 if good else 1)


class WarmApp(Command):
    """Fill the compilation cache."""

    name = "jaxgrader-warm"
    description = (
        "Run the instructor's notebooks of the named assignments (of all, if none is "
        "named) and keep what JAX compiles, for the kernels of all submissions. "
        "`nbgrader generate_assignment` does it, too."
    )

    def start(self) -> None:
        super().start()
        names = self.extra_args or [
            path.name for path in sorted(Path("source").iterdir())
        ]
        for name in names:
            self.warm(Path("source", name))

    def warm(self, folder: Path) -> None:
        """Run all notebooks of one assignment."""
        notebooks = sorted(folder.glob("*.ipynb"))
        if not notebooks:
            self.exit(f"{folder}: no notebook there. Run this in the course's folder.")
        for path in notebooks:
            ids = {"assignment": folder.name, "notebook": path.stem}
            resources = {"nbgrader": ids, "metadata": {"path": str(folder)}}
            count = WarmCache(parent=self).run(nbformat.read(path, 4), resources)
            print(f"{path}: {count} programs were new to the compilation cache")


class JaxgraderApp(Command):
    """The program itself."""

    name = "jaxgrader"
    description = "Grade a JAX and Flax course with nbgrader."
    subcommands = {  # noqa: RUF012
        "install": (InstallApp, "Register the kernel 'JAX (sandboxed)'"),
        "doctor": (DoctorApp, "Say what this machine gives, and how to get the rest"),
        "warm": (WarmApp, "Fill the compilation cache from the instructor's solutions"),
    }

    def start(self) -> None:
        super().start()
        if self.subapp is None:
            self.print_help()
            self.exit(2)


def main(argv: list[str] | None = None) -> Any:
    """Run the program; an error that somebody can mend ends it with a sentence."""
    try:
        return JaxgraderApp.launch_instance(argv)
    except GraderError as error:
        sys.exit(str(error))
