"""Where Jupyter looks for the panel, and how it gets there.

A wheel brings these files along (`shared-data` in pyproject.toml). An editable install
does not, and so `jaxgrader install` puts the same files into the same places.
"""

import shutil
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir

HERE = Path(__file__).parent
NAME = "jaxgrader"


def install(prefix: str | None, *, user: bool) -> Path:
    """Put the panel below a prefix, or into a user's folders; return where it is."""
    root = Path(prefix or sys.prefix)
    data = Path(jupyter_data_dir()) if user else root / "share" / "jupyter"
    config = Path(jupyter_config_dir()) if user else root / "etc" / "jupyter"
    target = data / "labextensions" / NAME
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(HERE / "labextension", target)
    enabled = config / "jupyter_server_config.d" / f"{NAME}.json"
    enabled.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "jaxgrader.json", enabled)
    return target
