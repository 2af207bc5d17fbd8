"""Tables of a class for spreadsheets and scripts: CSV and Parquet.

What it is: the records of `records.py`, written down. nbgrader's own columns come
first, in its order and its spelling, so that what reads `nbgrader export` reads these.
What it is not: a reader of files.

Guarantees: each value survives a round trip, whatever a student is called; a file is
written beside its place and then moved there, never half.
"""

import csv
import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import polars as pl

from jaxgrader.errors import GraderError
from jaxgrader.reporting.records import Records

#: The tables by name; each is a frame of `Records`.
TABLES = {"assignments": "submissions", "notebooks": "notebooks", "cells": "cells"}
FORMATS = ("csv", "parquet")


@dataclass(frozen=True)
class Export:
    """How to write tables."""

    format: str = "csv"
    #: Whether a spreadsheet program is to open the CSV: see `harmless`.
    spreadsheet: bool = False

    def write(self, records: Records, names: Iterable[str], folder: Path) -> list[Path]:
        """Write the named tables into a folder; return the files.

        Raises:
            GraderError: if a file cannot be written.
        """
        written = []
        for name in names:
            table = getattr(records, TABLES[name])
            written.append(folder / f"{name}.{self.format}")
            put(written[-1], functools.partial(self.write_table, table))
        return written

    def write_table(self, table: pl.DataFrame, file: IO[bytes]) -> None:
        """Write one table into an open file."""
        if self.format == "parquet":
            times = pl.col(pl.Datetime("us")).dt.replace_time_zone("UTC")
            table.with_columns(times).write_parquet(file)
            return
        if self.spreadsheet:
            file.write(MARK)
        file.write(self.as_csv(table).encode())

    def as_csv(self, table: pl.DataFrame) -> str:
        """Return a table as CSV: values as Python spells them, nothing for None."""
        lines = Lines()
        # A spreadsheet program may take other characters for separators, too.
        dialect = Closed if self.spreadsheet else csv.excel
        writer = csv.writer(lines, dialect)
        writer.writerow(table.columns)
        spell = harmless if self.spreadsheet else spelled
        writer.writerows(map(spell, row) for row in table.iter_rows())
        return "".join(lines)


def put(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its place, then move it there.

    Raises:
        GraderError: if it cannot be written; what was there before is still there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                write(file)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise GraderError(NO_FILE.format(path=path, why=error)) from error


class Lines(list[str]):
    """What `csv` writes into: lines that end as nbgrader's do.

    It quotes what has a part of the line's end in it: let that be both characters.
    """

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


class Closed(csv.excel):
    """All cells in quotes."""

    quoting = csv.QUOTE_ALL


def spelled(value: Any) -> str:
    """Return a value as nbgrader's export spells it."""
    return "" if value is None else str(value)


def harmless(value: Any) -> str:
    """Return a value as text that no spreadsheet program takes for a formula.

    They run a cell that begins with one of `=+-@`, also inside quotes (CWE-1236). An
    apostrophe before it makes it text, and becomes a part of it: so only on demand.
    """
    text = spelled(value)
    formula = isinstance(value, str) and text.lstrip().startswith(FORMULA)
    return f"'{text}" if formula or text.startswith(("\t", "\r", "\n")) else text


#: Their full-width twins count as well.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Without it, Excel takes UTF-8 for something else.
MARK = b"\xef\xbb\xbf"

NO_FILE = (
    "{path} cannot be written ({why}). Name another place with --to, or mend this one."
)
