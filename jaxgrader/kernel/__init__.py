"""Warm, jailed kernels: machinery that makes processes for code that nobody trusts.

What is loaded here can be read by every student's process. So nothing in this room
imports nbgrader, a gradebook or a test; import-linter holds it to that.

    sandbox.py      what people set (level, limits); the outer layer, bubblewrap
    servers.py      the client's side of the fork server: find it, or start it
    provisioner.py  the kernel provisioner through which any Jupyter client comes in
    zygote.py       the fork server: JAX and Flax imported once, one fork per kernel
    warm.py         what the fork server does once: trace and lower, start no backend
    guard.py        first process of each jail: limits over time, signals, the end
    usage.py        what a jail's processes use together, read from /proc
    jail.py         the inner layer: namespaces, mounts, Landlock, seccomp, rlimits
    app.py          the kernel itself, a stock ipykernel that was forked
    cache.py        the compilation cache: who fills it, who reads it
    lowered.py      the same for what comes before the compiler: lowered programs
    quick.py        small programs are compiled quickly
    devices.py      platforms, and the lease of one accelerator to one kernel
    folders.py      remove what ended kernels left, whatever it is
    inside.py       what they agree on: paths inside, limits, the server's settings
    wire.py         what client, fork server and guard say to each other
"""
