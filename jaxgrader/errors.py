"""What can go wrong, by whose fault it is:

* JaxgraderError
  x SubmissionError        the student handed in something that cannot be graded
    + ProgramError         a function that JAX cannot trace, or a program out of bounds
  x CourseError            the course author's notebook or setting is wrong
  x GraderError            ours, or this machine's
    + PlatformError        the accelerator that the course asks for is not here
    + SandboxError         the sandbox that the course asks for cannot be made here

Every message says what happened, where, and what to do next.
"""


def first_line(error: BaseException, limit: int) -> str:
    """Return the first line of an error's message, of `limit` characters at most."""
    return (str(error).splitlines() or [""])[0][:limit]


class JaxgraderError(Exception):
    """Root of the errors that jaxgrader raises on purpose."""


class SubmissionError(JaxgraderError):
    """The submission cannot be graded as it is; the rest of the class can."""


class CourseError(JaxgraderError):
    """A source notebook or a setting must be mended by the course author."""


class GraderError(JaxgraderError):
    """Neither the student nor the author can mend this; no score may follow from it."""


class PlatformError(GraderError):
    """JAX does not find the platform that ``c.Sandbox.platform`` asks for."""


class SandboxError(GraderError):
    """No kernel can be jailed as ``c.Sandbox.level`` asks for."""


class ProgramError(SubmissionError):
    """A function of the submission does not trace to a program that may be judged."""
