"""The settings of this course, for its instructors: the one page to edit.

nbgrader reads it for every command that starts in this folder, and so does JupyterLab.
All other settings are nbgrader's own: `nbgrader <command> --help-all` lists them.
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
gradebook = f"sqlite:///{course}/gradebook.db"
c.CourseDirectory.db_url = os.environ.get("JAXGRADER_DB_URL", gradebook)

# The exchange: the folder through which assignments and submissions travel. With
# students on the same machine or network disk, name one that all of them can write to.
exchange = Path(os.environ.get("JAXGRADER_EXCHANGE", course / "exchange"))
exchange.mkdir(parents=True, exist_ok=True)
c.Exchange.root = str(exchange)
c.ExchangeFactory.collect = "jaxgrader.exchange.ExchangeCollect"

# ---- Kernels: warm, jailed, one for each submission -------------------------------
c.Execute.kernel_name = "jax-sandboxed"
# Less than "strict" only where a machine cannot give it: `jaxgrader doctor` tells.
c.Sandbox.level = "strict"
# Where they run JAX: "cpu", "gpu" or "tpu". A platform that is not there is an error.
c.Sandbox.platform = "cpu"
# Seconds: for one cell, for all cells of a notebook, of processor time.
c.Limits.cell = 30
c.Limits.wall = 180
c.Limits.cpu = 300
# Bytes: of memory, of files, of output per cell.
c.Limits.memory = 4 << 30
c.Limits.disk = 512 << 20
c.Limits.output = 500_000

# ---- What happens to a source notebook when it is released -----------------------
# nbgrader's own steps and three of ours.
before = """IncludeHeaderFooter InstantiateTests LockCells ClearSolutions ClearOutput
    CheckCellMetadata ComputeChecksums"""
after = "ClearHiddenTests ClearMarkScheme ComputeChecksums CheckCellMetadata"
c.GenerateAssignment.preprocessors = [
    "jaxgrader.authoring.CheckSource",  # says what is wrong with it
    "jaxgrader.authoring.WarmCache",  # runs the solution; kernels reuse programs
    *[f"nbgrader.preprocessors.{step}" for step in before.split()],
    "jaxgrader.authoring.SaveCells",  # test cells may come and go after the release
    *[f"nbgrader.preprocessors.{step}" for step in after.split()],
]

# ---- What happens to a submission when it is graded -------------------------------
c.Autograde.sanitize_preprocessors = [
    "nbgrader.preprocessors.ClearOutput",
    "jaxgrader.preprocessors.RestoreCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "jaxgrader.preprocessors.Grade",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "jaxgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# What a student reads of it: a hidden test becomes one line.
c.GenerateFeedback.preprocessors = [
    "jaxgrader.feedback.HideTests",
    "nbgrader.preprocessors.GetGrades",
]
