"""The "Jax Grader" panel in JupyterLab: a server extension and its front end.

    handlers.py    what the panel asks and orders, over HTTP
    formgrader.py  nbgrader's own autograde button, as a batch of one
    access.py      who may: course staff, as the formgrader has it
    course.py      the formgrader's course, as its gradebook, its lock and its files say
    processes.py   `jaxgrader autograde`, `jaxgrader status`: processes of their own
    install.py     where Jupyter looks for all of this
    labextension/  the front end, as JupyterLab loads it: there is no build

The server remembers nothing that matters. A batch is a process of its own, and where it
stands is in the gradebook's ledger and in the course's lock; so a restarted server, and
each tab, shows the same, and also a batch that somebody started in a terminal.
"""

from typing import Any

from jaxgrader.lab.handlers import add_handlers


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Called by Jupyter Server: where the extension is."""
    return [{"module": "jaxgrader.lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by Jupyter Server when it starts."""
    add_handlers(server.web_app)
