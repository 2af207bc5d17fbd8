"""Many jobs at once: the same function here, on all cores, on a cluster.

jobs.py   run_jobs(): order, retries, what to do when workers die
local.py  this machine: serial, or a process for each slot
dask.py   a cluster: hosts over SSH, Slurm, Kubernetes (the extra [cluster])

A maker of slots returns a `Slots`: a `concurrent.futures.Executor` and how it fails.
This room knows neither grading nor the gradebook.
"""
