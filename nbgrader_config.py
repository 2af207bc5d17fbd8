"""The settings of this course, for its instructors: the one page to edit.

nbgrader reads it for every command that starts in this folder, and so does JupyterLab
(the formgrader, the Assignment List, the Validate button). All other settings are
nbgrader's own: `nbgrader <command> --help-all` lists them.
"""

import os
from pathlib import Path

from jaxgrader.converters import plug_in

plug_in()
c = get_config()
course = Path(__file__).resolve().parent

# ---- The course -----------------------------------------------------------------

c.CourseDirectory.course_id = "jax"
c.CourseDirectory.root = str(course)

# The gradebook: a file here, or any database URL that SQLAlchemy knows.
c.CourseDirectory.db_url = os.environ.get(
    "JAXGRADER_DB_URL", f"sqlite:///{course}/gradebook.db"
)

# The exchange: the folder through which assignments and submissions travel. With
# students on the same machine or network disk, name one that all of them can write to.
exchange = Path(os.environ.get("JAXGRADER_EXCHANGE", course / "exchange"))
exchange.mkdir(parents=True, exist_ok=True)
c.Exchange.root = str(exchange)
c.ExchangeFactory.collect = "jaxgrader.exchange.ExchangeCollect"

# ---- Limits ---------------------------------------------------------------------

# Seconds: for one cell, and for all cells of a notebook together.
c.Execute.timeout = 30
c.Execute.submission_timeout = 180

# Characters that a cell may print.
c.Execute.max_output = 500_000

# Where the kernels run JAX: "cpu", "gpu" or "tpu". A platform that is not there is an
# error, never a silent CPU.
c.Execute.platform = "cpu"

# ---- What happens to a source notebook when it is released -----------------------

# nbgrader's own steps, with a check of the source in front.
c.GenerateAssignment.preprocessors = ["jaxgrader.preprocessors.CheckSource"] + [
    f"nbgrader.preprocessors.{step}"
    for step in (
        "IncludeHeaderFooter InstantiateTests LockCells ClearSolutions ClearOutput "
        "CheckCellMetadata ComputeChecksums SaveCells ClearHiddenTests ClearMarkScheme "
        "ComputeChecksums CheckCellMetadata"
    ).split()
]

# ---- What happens to a submission when it is graded -------------------------------

c.Autograde.sanitize_preprocessors = [
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "jaxgrader.preprocessors.RestoreCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "jaxgrader.preprocessors.Execute",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "jaxgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
