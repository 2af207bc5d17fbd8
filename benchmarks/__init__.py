"""What a warm, jailed kernel costs beside a stock one: `python -m benchmarks`.

    __main__.py   runs the benchmarks, prints one table, says whether a bar was missed
    figures.py    a figure and its bar; processor time, memory and files of processes
    kernels.py    starts of kernels: one, ten at once, five hundred in a row
    jails.py      the jail's own cost, against the same forks without a jail
    notebooks.py  `nbgrader autograde`, with this course's settings and with stock ones
    batch.py      `jaxgrader autograde` on a class
    lab.py        a Jupyter server's answers while the panel's batch runs

README.md tells what is measured and what came out.
"""
