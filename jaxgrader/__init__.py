"""jaxgrader: grade a JAX and Flax course with nbgrader, without its rough edges."""

# General layout
#
# The repository root is an nbgrader course; this package plugs into stock nbgrader.
# Start reading at `nbgrader_config.py` in the course: it names everything that
# nbgrader takes from here.
#
#   __main__.py        the program's first step
#   cli.py             `jaxgrader autograde`, `status`, `install`, `doctor`, `warm`
#   lab/               JupyterLab's panel: server extension and front end; laid out in
#                      its __init__.py
#   cli_reports.py     `jaxgrader export`, `report`
#   reporting/         what people see of grades: terminal, exports, the class report;
#                      laid out in its __init__.py
#   autograde.py       the class in one batch: what the coordinator does
#   course.py          what a course has to grade, and jobs of it
#   doctor.py          what this machine gives, layer by layer
#   converters.py      plug_in(): what no setting of nbgrader reaches, and
#                      what to say of a submission that cannot be graded
#   worker.py          grade(job): one submission, in a course of the worker's own
#   authoring.py       the steps of generate_assignment that are ours
#   validation.py      what Validate says of a test that failed
#   feedback.py        what a student reads of the tests: hidden ones become one line
#   feedback_page.py   the page that they read it on; it lies in templates/
#   store.py           the ledger, and the batch's results where they belong: one writer
#   rows.py            the gradebook's rows of one submission
#   lock.py            one grader at a time
#   preprocessors.py   the steps of autograde that replace stock ones
#   pages.py           notebooks as web pages in which nothing of theirs can run
#   formulas.py        TeX as MathML
#   differences.py     got and expected as a table, and as a plot
#   drawings.py        plots as SVG; the frame of pages, and their colours
#   batch/             many jobs at once: in processes here, or on a cluster; knows
#                      neither grading nor the gradebook
#   submissions.py     what can be wrong with a submitted folder
#   archives.py        folders as bytes, and folders that change places in one step
#   exchange.py        collect, without following links
#   grading/           TRUST BOUNDARY: the checker, and the two ends of the wire to a
#                      student's process; laid out in its __init__.py
#   verdicts.py        what a test cell's outputs are worth, and how nbgrader is told
#   kernel/            TRUST BOUNDARY: warm, jailed kernels; laid out in its __init__.py
#   comparisons.py     what a check that failed has compared: got and expected
#   testing.py         what test cells import: asserts on values and on traced programs
#   references.py      what tests expect, computed once for a class
#   trees.py           compare trees of arrays, and say everything that differs
#   exports.py         a call as a program: packed, checked, read and run elsewhere
#   explain.py         why JAX could not trace a function, in the student's words
#   interpreter.py     runs small programs without compiling them
#   programs.py        Program and Loop: what a test judges
#   dataflow.py        what the results depend on, and how often loops turn
#   stablehlo.py       reads StableHLO, and refuses what is not on its lists
#   results.py         a job, and what came of it; the verdict on a test
#   errors.py          three roots: the submission's fault, the course author's, ours
#
# Imports go downwards only, in the order of this list; import-linter holds us to it.
# What is decided, and why: docs/design.md.

__version__ = "0.1.0"
