"""The formgrader's autograde button, as a batch of one submission.

nbgrader grades in the server's own process, and nobody gets an answer until that is
done: minutes, where a student's loop has no end. What is replaced is one method of its
handler; who may press the button is nbgrader's matter, as before.
"""

import json
from collections.abc import Callable
from typing import Any

from nbgrader.server_extensions.formgrader.apihandlers import AutogradeHandler
from nbgrader.server_extensions.formgrader.base import check_notebook_dir, check_xsrf
from tornado import web

#: Grades one submission for a handler: assignment, student -> what nbgrader's pages
#: expect, `{"success": ..., "log": ...}`.
Grade = Callable[[Any, str, str], Any]


def take_over(grade: Grade) -> None:
    """From now on, let `grade` do what the button asks for."""

    async def post(self: Any, assignment_id: str, student_id: str) -> None:
        self.finish(json.dumps(await grade(self, assignment_id, student_id)))

    AutogradeHandler.post = web.authenticated(check_xsrf(check_notebook_dir(post)))
