"""`jaxgrader export`, `jaxgrader report`: what a course's gradebook and ledger tell.

Apart from `cli.py`, since what they import is of no use to a batch.
"""

import datetime
import sys
from pathlib import Path
from typing import Any

from nbgrader.apps.baseapp import NbGrader, nbgrader_aliases, nbgrader_flags
from traitlets import Bool, Enum, List, Unicode

from jaxgrader import __version__
from jaxgrader.errors import GraderError
from jaxgrader.reporting.export import FORMATS, TABLES, Export, put
from jaxgrader.reporting.records import Records, read_records
from jaxgrader.store import Store, explained


class ReadingApp(NbGrader):
    """A command that reads a course and writes files for people."""

    version = __version__

    def records(self) -> Records:
        """Read the assignments that the command line names, all if it names none.

        Raises:
            CourseError: for an unknown one.
        """
        with explained(self.coursedir.db_url):
            store = Store(self.coursedir)
            try:
                return read_records(store.engine, self.extra_args)
            finally:
                store.close()


class ExportApp(ReadingApp):
    """Write a class's scores into files for other programs."""

    name = "jaxgrader-export"
    description = (
        "Write the scores of the named assignments (of all, if none is named) as "
        "tables: a row for each student and assignment, for each notebook, and for "
        "each cell that has points. nbgrader's own columns come first."
    )
    examples = """
        jaxgrader export
        jaxgrader export nnx-fori-loop --to=grades --format=parquet
        jaxgrader export --to=- --table=cells > cells.csv
    """
    to = Unicode(
        "exports", help="The folder; - is the standard output, and one table."
    ).tag(config=True)
    format = Enum(FORMATS, "csv", help="csv or parquet.").tag(config=True)
    tables = List(
        Enum(list(TABLES)), help=f"Which: {', '.join(TABLES)}; all by default."
    ).tag(config=True)
    spreadsheet = Bool(
        False,
        help=(
            "CSV that is safe to open in a spreadsheet program: text that it would "
            "take for a formula gets an apostrophe in front. This changes such names."
        ),
    ).tag(config=True)

    aliases = {  # noqa: RUF012
        **nbgrader_aliases,
        "course": "CourseDirectory.course_id",
        "to": "ExportApp.to",
        "format": "ExportApp.format",
        "table": "ExportApp.tables",
    }
    flags: Any = {  # noqa: RUF012
        **nbgrader_flags,
        "spreadsheet": ({"ExportApp": {"spreadsheet": True}}, spreadsheet.help),
    }

    def start(self) -> None:
        super().start()
        export = Export(self.format, self.spreadsheet)
        records = self.records()
        if self.to == "-":
            name, *more = self.tables or ["assignments"]
            if more:
                raise GraderError(ONE_TABLE)
            export.write_table(getattr(records, TABLES[name]), sys.stdout.buffer)
            return
        for path in export.write(records, self.tables or TABLES, Path(self.to)):
            print(path)


class ReportApp(ReadingApp):
    """Write the class report."""

    name = "jaxgrader-report"
    description = (
        "Write the class report on the named assignments (on all, if none is named): "
        "one page of HTML that needs nothing but itself."
    )
    examples = """
        jaxgrader report
        jaxgrader report nnx-fori-loop --anonymous --to=for-class.html
    """
    to = Unicode("report.html", help="The file.").tag(config=True)
    anonymous = Bool(
        False,
        help=(
            "Leave out names, ids and what few students' errors said, for showing it "
            "in class. The codes that stand for students stay the same."
        ),
    ).tag(config=True)

    aliases = {  # noqa: RUF012
        **nbgrader_aliases,
        "course": "CourseDirectory.course_id",
        "to": "ReportApp.to",
    }
    flags: Any = {  # noqa: RUF012
        **nbgrader_flags,
        "anonymous": ({"ReportApp": {"anonymous": True}}, anonymous.help),
    }

    def start(self) -> None:
        super().start()
        # Here, since an export has no use for what draws plots.
        from jaxgrader.reporting.page import by_name, by_pseudonym, render

        records = self.records()
        root = Path(self.coursedir.root)
        voice = by_pseudonym(records, root) if self.anonymous else by_name(records)
        made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        page = render(records, voice, self.coursedir.course_id or "Course", made)
        put(Path(self.to), lambda file: file.write(page.encode()))
        print(self.to)


ONE_TABLE = "The standard output takes one table: name one with --table, or a folder."
