"""What the panel asks and orders, over HTTP: `<base_url>jaxgrader/api/...`.

Guarantees: only course staff get an answer (`access.py`); an order needs Jupyter's XSRF
token and a JSON body; it names submissions that are there, and nothing else of it
reaches a command. No handler waits for a disk, a database or a process on the server's
event loop.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.web import HTTPError

from jaxgrader.errors import GraderError
from jaxgrader.lab.access import Access
from jaxgrader.lab.course import Gradebook, Snapshot
from jaxgrader.lab.formgrader import take_over
from jaxgrader.lab.processes import OPTIONS, Batches, Report, Survey, outcome

#: Seconds: how old a look at the ledger, and at all files, may be when it is shown.
LEDGER_HOLDS, SURVEY_HOLDS = 0.5, 120.0


class Desk:
    """What this server has of one course: looks at it, and started processes."""

    def __init__(self, gradebook: Gradebook) -> None:
        self.gradebook = gradebook
        self.batches = Batches(gradebook.root)
        self.survey = Survey(gradebook.root)
        self.report = Report(gradebook.root)
        self.one_at_a_time, self.one_press = asyncio.Lock(), asyncio.Lock()
        self.seen: tuple[float, Snapshot] | None = None
        self.graded = False
        self.interrupted = ""

    async def look(self) -> Snapshot:
        """Return where submissions stand; all tabs share one look."""
        async with self.one_at_a_time:
            if self.seen is None or time.monotonic() - self.seen[0] > LEDGER_HOLDS:
                survey = self.survey
                made = await asyncio.to_thread(
                    Snapshot, self.gradebook, survey.needs, survey.began
                )
                self.seen = time.monotonic(), made
            snapshot = self.seen[1]
        self.ask_survey(snapshot)
        return snapshot

    def ask_survey(self, snapshot: Snapshot) -> None:
        """Look at all files where that was long ago, or a batch has just ended."""
        grades = snapshot.holder is not None
        if (self.graded and not grades) or self.survey.age() > SURVEY_HOLDS:
            self.survey.ask()
        self.graded = grades

    def forget(self) -> None:
        """Let the next look be a fresh one."""
        self.seen = None

    async def grade_one(self, assignment: str, student: str) -> dict[str, Any]:
        """Grade a submission, again if it is graded; return how it went, for nbgrader.

        Those who ask meanwhile wait for their turn.
        """
        these = [{"assignment": assignment, "student": student}]
        async with self.one_press:
            async with self.one_at_a_time:
                if self.batches.starting(None):
                    return {"success": False, "log": IS_GRADED}
                started = await asyncio.to_thread(self.batches.start, "all", these)
                self.forget()
            return await asyncio.to_thread(outcome, *started)


def desk_of(settings: dict[str, Any]) -> Desk:
    """Return the desk of the course that a server's formgrader shows now."""
    course = settings["nbgrader_formgrader"].coursedir
    desks: dict[tuple[str, str], Desk] = settings["jaxgrader_desks"]
    key = course.root, course.db_url
    if key not in desks:
        desks[key] = Desk(Gradebook(course))
    return desks[key]


async def press(handler: Any, assignment: str, student: str) -> dict[str, Any]:
    """Do what the formgrader's autograde button asks for."""
    return await desk_of(handler.settings).grade_one(assignment, student)


class Handler(APIHandler):
    """A request of course staff's about the formgrader's course."""

    auth_resource = "jaxgrader"

    async def prepare(self, **how: Any) -> None:
        await super().prepare(**how)
        if not self.current_user:
            raise HTTPError(403)
        await self.settings["jaxgrader_access"].require_staff(self.current_user)

    @property
    def desk(self) -> Desk:
        """The desk of the course that the formgrader shows now."""
        return desk_of(self.settings)

    async def look(self) -> Snapshot:
        """Look at the course. Raises HTTPError 503 with what is wrong with it."""
        try:
            return await self.desk.look()
        except GraderError as error:
            raise HTTPError(503, str(error)) from error

    async def named(self) -> tuple[Snapshot, str, str]:
        """Return the submission that the query names. Raises HTTPError 404."""
        assignment = self.get_query_argument("assignment")
        student = self.get_query_argument("student")
        snapshot = await self.look()
        if student not in snapshot.submissions.get(assignment, {}):
            raise HTTPError(404, NO_SUBMISSION)
        return snapshot, assignment, student

    def order(self) -> dict[str, Any]:
        """Return the body of an order. Raises HTTPError 415 or 400."""
        kind = self.request.headers.get("Content-Type", "").split(";")[0].strip()
        if kind != "application/json":
            raise HTTPError(415, NO_JSON)
        body = self.get_json_body()
        if not isinstance(body, dict):
            raise HTTPError(400, NO_ORDER)
        return body


class StateHandler(Handler):
    """Where the course's assignments stand, and its batch."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        snapshot, desk = await self.look(), self.desk
        state = {
            "course": desk.gradebook.course.course_id,
            "assignments": list(snapshot.assignments()),
            "batch": snapshot.batch(),
            "starting": desk.batches.starting(snapshot.holder),
            "surveyed": bool(snapshot.surveyed),
            "trouble": desk.survey.trouble,
            "last_words": await asyncio.to_thread(desk.batches.last_words),
        }
        self.finish(json.dumps(state))


class SubmissionsHandler(Handler):
    """The submissions of one assignment."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        assignment = self.get_query_argument("assignment")
        snapshot = await self.look()
        if assignment not in snapshot.submissions:
            raise HTTPError(404, NO_SUBMISSION)
        found = await asyncio.to_thread(self.with_notebooks, snapshot, assignment)
        self.finish(json.dumps({"submissions": found}))

    def with_notebooks(self, snapshot: Snapshot, assignment: str) -> list[Any]:
        """Return submissions, each with where its notebooks can be seen."""
        book, top = self.desk.gradebook, Path(self.settings["server_root_dir"])
        top = top.expanduser().resolve()
        pages = book.pages(assignment)
        return [
            {
                **each,
                "notebooks": [
                    {
                        "name": name,
                        "page": f"formgrader/submissions/{page}/",
                        "path": book.file_of(top, assignment, student, name),
                    }
                    for name, page in pages.get(student, {}).items()
                ],
            }
            for student, each in snapshot.submissions[assignment].items()
        ]


class LogHandler(Handler):
    """The log of one submission."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        _, *ids = await self.named()
        log = await asyncio.to_thread(self.desk.gradebook.log, *ids)
        self.finish(json.dumps({"log": log}))


class BatchLogHandler(Handler):
    """What the latest batch that a panel started has written."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        log = await asyncio.to_thread(self.desk.batches.log)
        self.finish(json.dumps({"log": log}))


class StartHandler(Handler):
    """Start a batch: `{"what": ..., "submissions": [{"assignment", "student"?}]}`."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        body, snapshot, desk = self.order(), await self.look(), self.desk
        what = body.get("what")
        if not isinstance(what, str) or what not in OPTIONS:
            raise HTTPError(400, NO_ORDER)
        these = chosen(body.get("submissions"), snapshot)
        async with desk.one_at_a_time:
            # Where that is wrong by now, the lock tells the batch so.
            if snapshot.holder is not None or desk.batches.starting(None):
                raise HTTPError(409, IS_GRADED)
            await asyncio.to_thread(desk.batches.start, what, these)
            desk.forget()
        self.set_status(202)
        self.finish(json.dumps({}))


class CancelHandler(Handler):
    """Stop the batch that runs: `{"born": ...}` names it, so that no later one is."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        body, desk = self.order(), self.desk
        desk.forget()
        holder = (await self.look()).holder
        if holder is None or holder.born != body.get("born"):
            raise HTTPError(409, IS_OVER)
        # A second Ctrl-C would end it at once, in the middle of its last submissions.
        if desk.interrupted != holder.born:
            try:
                await asyncio.to_thread(holder.interrupt, desk.gradebook.root)
            except GraderError as error:
                raise HTTPError(403, str(error)) from error
            desk.interrupted = holder.born
        self.set_status(202)
        self.finish(json.dumps({}))


class SurveyHandler(Handler):
    """Look at all files again."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        self.order()
        self.desk.survey.ask()
        self.set_status(202)
        self.finish(json.dumps({}))


class ReportHandler(Handler):
    """The class report: an order to write it, `{"anonymous": ...}`, and the page."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        anonymous = self.order().get("anonymous")
        if not isinstance(anonymous, bool):
            raise HTTPError(400, NO_REPORT_ORDER)
        trouble = await self.desk.report.make(anonymous=anonymous)
        if trouble:
            raise HTTPError(503, trouble)
        self.finish(json.dumps({}))

    @web.authenticated
    @authorized
    async def get(self) -> None:
        try:
            page = await asyncio.to_thread(self.desk.report.file.read_bytes)
        except FileNotFoundError:
            raise HTTPError(404, NO_PAGE) from None
        self.set_header("Content-Security-Policy", REPORT_POLICY)
        self.finish(page, set_content_type="text/html; charset=UTF-8")


#: The page has no script, and what students wrote is escaped in it. If that failed, it
#: would still be no page of the server's.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'"
)


def chosen(records: Any, snapshot: Snapshot) -> list[dict[str, str]]:
    """Return what an order asks to grade. Raises HTTPError 400, 404."""
    if not isinstance(records, list) or not records:
        raise HTTPError(400, NO_ORDER)
    found = []
    for record in records:
        if not isinstance(record, dict) or not set(record) <= {"assignment", "student"}:
            raise HTTPError(400, NO_ORDER)
        if not all(isinstance(value, str) for value in record.values()):
            raise HTTPError(400, NO_ORDER)
        students = snapshot.submissions.get(record.get("assignment", ""))
        student = record.get("student")
        if not students or (student is not None and student not in students):
            raise HTTPError(404, NO_SUBMISSION)
        found.append(record)
    return found


HANDLERS: dict[str, type[Handler]] = {
    "state": StateHandler,
    "submissions": SubmissionsHandler,
    "log": LogHandler,
    "batch-log": BatchLogHandler,
    "start": StartHandler,
    "cancel": CancelHandler,
    "survey": SurveyHandler,
    "report": ReportHandler,
}


def add_handlers(application: Any) -> None:
    """Let a Jupyter server answer the panel, and the formgrader's autograde button."""
    take_over(press)
    settings = application.settings
    settings["jaxgrader_access"], settings["jaxgrader_desks"] = Access(settings), {}
    base = settings["base_url"]
    application.add_handlers(
        ".*$",
        [
            (url_path_join(base, "jaxgrader", "api", name), handler)
            for name, handler in HANDLERS.items()
        ],
    )


NO_SUBMISSION = "There is no such submission. Refresh the panel to see what there is."
NO_REPORT_ORDER = 'This order is {"anonymous": true} or {"anonymous": false}.'
NO_PAGE = "No class report has been made yet. Make one in the panel."
NO_JSON = "An order's Content-Type is application/json."
NO_ORDER = (
    'An order names what to grade: {"what": "missing", "submissions": '
    '[{"assignment": "ps1", "student": "ada"}]}.'
)
IS_GRADED = (
    "This course is being graded already. Wait until that is done, or cancel it, then "
    "start again."
)
IS_OVER = "That batch has ended. Nothing was cancelled."
