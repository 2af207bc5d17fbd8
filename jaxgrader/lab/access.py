"""Who may see a course and grade it: whom the formgrader lets in.

The formgrader's rule is its server's: whoever may use a server on which it is enabled
is staff. (Under JupyterHub the hub keeps a course's server for the group
`formgrade-<course>`.) So a server without the formgrader refuses everybody. Two things
that nbgrader and the hub know of people are asked besides.
"""

import asyncio
import time
from typing import Any

from nbgrader.auth import Authenticator
from tornado.web import HTTPError

#: Seconds for which an authenticator's answer holds: it may ask the hub.
HOLDS = 30.0


class Access:
    """Whether people may use the panel of the formgrader's course."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.answers: dict[str, tuple[float, bool]] = {}

    async def require_staff(self, user: Any) -> None:
        """Let the user of a request in. Raises HTTPError 403 if it is no staff."""
        if self.settings.get("nbgrader_formgrader") is None:
            raise HTTPError(403, NO_FORMGRADER)
        course_id = self.settings["nbgrader_formgrader"].coursedir.course_id
        if is_student(user, course_id) or not await self.in_course(course_id):
            raise HTTPError(403, NO_STAFF)
        if self.settings["nbgrader_bad_setup"]:
            raise HTTPError(409, NOT_BELOW)

    async def in_course(self, course_id: str) -> bool:
        """Whether nbgrader's authenticator gives this server's owner the course."""
        when, answer = self.answers.get(course_id, (-HOLDS, False))
        if time.monotonic() - when < HOLDS:
            return answer
        # The formgrader makes its own of the same settings, too, for each request.
        authenticator = Authenticator(
            config=self.settings["nbgrader_formgrader"].config
        )
        try:
            # "*" is nbgrader's word for whoever runs this process.
            answer = await asyncio.to_thread(authenticator.has_access, "*", course_id)
        except Exception as error:  # a plugin's: whatever it is, nobody gets in
            message = NO_ANSWER.format(kind=type(error).__name__)
            raise HTTPError(503, message) from error
        self.answers[course_id] = time.monotonic(), answer
        return answer


def is_student(user: Any, course_id: str) -> bool:
    """Whether JupyterHub says that somebody is a student of a course, and no grader."""
    groups = (getattr(user, "hub_user", None) or {}).get("groups", ())
    return f"nbgrader-{course_id}" in groups and f"formgrade-{course_id}" not in groups


NO_FORMGRADER = (
    "Only course staff may grade: this server does not have nbgrader's formgrader. "
    "Staff enable it with `jupyter server extension enable "
    "nbgrader.server_extensions.formgrader`."
)
NO_STAFF = "Only course staff may grade: you are not one of this course's."
NO_ANSWER = (
    "Whether you are course staff cannot be told: c.Authenticator.plugin_class failed "
    "with {kind}. The server's log has the rest."
)
NOT_BELOW = (
    "The course is not below the folder that JupyterLab was started in, and the "
    "formgrader does not work. Start JupyterLab in the course's folder, or above it."
)
