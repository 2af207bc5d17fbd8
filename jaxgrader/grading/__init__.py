"""The two ends of the wire: a TRUST BOUNDARY.

On one end runs a student's code, on the other the tests that judge it. Whatever arrives
from the student's end is hostile, also when it claims to come from our own code there.

    wire.py    frames over a socket: send, receive, deadlines; what others import
    codec.py   a value as the bytes of a frame, and back
    values.py  what may cross, how much of it, and what is said of the rest
"""
