"""The two ends of the wire: a TRUST BOUNDARY.

On one end runs a student's code, on the other the tests that judge it. Whatever arrives
from the student's end is hostile, also when it claims to come from our own code there.

Trusted, in the grader's process:
    plan.py       what the checker runs, read from source/
    runner.py     grade one notebook: the way of a submission
    serving.py    the connections that it brings about
    checker.py    the process in which tests run, from the grader's side
    cells.py      a kernel, and cells run in it
Trusted, in the checker's process:
    client.py     remote functions, and the report on each cell
    inspections.py  asks the inspector, and remembers
In isolated processes:
    server.py     the student's: serves calls
    inspector.py  reads and runs traced programs, with no code of a student's
Both ends:
    meeting.py where a kernel and the grader connect
    wire.py    frames over a socket: send, receive, deadlines; what others import
    codec.py   a value as the bytes of a frame, and back
    values.py  what may cross, how much of it, and what is said of the rest
"""
