"""What can be wrong with a submitted folder as a whole."""

from pathlib import Path
from typing import Any

import nbformat
from nbgrader.utils import parse_utc

from jaxgrader.errors import SubmissionError, first_line
from jaxgrader.exchange import find_link


def check_submission(folder: Path) -> None:
    """Raise `SubmissionError` unless nbgrader can read all of a submitted folder.

    Nothing is changed. Links are refused: the autograded copy would follow them.
    """
    link = find_link(folder)
    if link is not None:
        raise SubmissionError(f"{link} is a symbolic link")
    stamp = folder / "timestamp.txt"
    try:
        if stamp.exists() and (text := stamp.read_text().strip()):
            parse_utc(text)
    except (OSError, ValueError) as error:
        raise SubmissionError(f"timestamp.txt holds no time ({short(error)})") from None
    for path in sorted(folder.glob("*.ipynb")):
        try:
            check_notebook(nbformat.read(path, as_version=4))
        except Exception as error:
            why = f"{path.name} cannot be read as a notebook ({short(error)})"
            raise SubmissionError(why) from None


def check_notebook(nb: Any) -> None:
    """Raise whatever shows that the steps of a command could not work with a notebook.

    Not nbformat's validation: other programs than Jupyter write notebooks that it
    refuses and that can be graded.
    """
    if not isinstance(nb.cells, list):
        raise TypeError("its cells are no list")
    if not isinstance(nb.metadata, dict) or type(nb.nbformat_minor) is not int:
        raise TypeError("it has no metadata, or does not say its format")
    for cell in nb.cells:
        if not isinstance(cell.metadata, dict) or not isinstance(cell.source, str):
            raise TypeError("a cell has no metadata, or no text")
        # Half a character cannot be written into a file again.
        (cell.cell_type + cell.source).encode()
    nbformat.writes(nb).encode()


def short(error: Exception) -> str:
    """Return an error's type and the beginning of its message."""
    return f"{type(error).__name__}: {first_line(error, 120)}"
