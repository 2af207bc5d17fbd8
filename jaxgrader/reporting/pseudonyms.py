"""A class without its names, for a report that is shown in class.

A pseudonym is a keyed digest of the student's id: the same in each report of a course,
and nothing that a list of ids leads back to without the course's key.

Guarantees: no id, name or address of the class in a text that passes `redact`; and no
text of an error that fewer than `CROWD` students share, since it may say anything.
"""

import base64
import builtins
import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from jaxgrader.errors import GraderError

#: The file in the course's folder that holds its key.
KEY = ".jaxgrader/pseudonyms"
#: A sentence that so many students were told belongs to none of them.
CROWD = 3
#: From this length on, a name is found within words, too.
LONG = 6


def read_key(course: Path) -> bytes:
    """Return a course's key; makes one at first.

    Raises:
        GraderError: if the file can be neither read nor made.
    """
    path = course / KEY
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        except FileExistsError:
            pass
        key = path.read_bytes().strip()
    except OSError as error:
        raise GraderError(NO_KEY.format(path=path, why=error)) from error
    if len(key) < 32:
        raise GraderError(NO_KEY.format(path=path, why="it is too short"))
    return key


def pseudonym(key: bytes, student: str) -> str:
    """Return a student's name for the class: eight letters and digits."""
    digest = hmac.new(key, student.encode(), hashlib.sha256).digest()
    letters = base64.b32encode(digest).decode()
    return f"{letters[:4]}-{letters[4:8]}"


class Redactor:
    """Leaves out of a text what belongs to somebody in the class."""

    def __init__(self, facts: Iterable[str | None]) -> None:
        terms = {plain(fact).strip() for fact in facts if fact} - {""}
        self.words = {word for term in terms for word in re.findall(r"\w+", term)}
        #: These are left out wherever they stand: a script without spaces has no words.
        self.parts = sorted(
            (t for t in terms | self.words if len(t) >= LONG or not t.isascii()),
            key=len,
            reverse=True,
        )

    def redact(self, text: str) -> str:
        """Return a text without names, in lower case where one was found within."""
        text = re.sub(r"\w+", self.word, text)
        lower = plain(text)
        found = [part for part in self.parts if part in lower]
        for part in found:
            lower = lower.replace(part, "…")
        return lower if found else text

    def word(self, match: re.Match[str]) -> str:
        """Return a word, or what stands for it."""
        return "…" if plain(match[0]) in self.words else match[0]


def plain(text: str) -> str:
    """Return a text as names are compared: in one spelling, without capitals."""
    return unicodedata.normalize("NFKC", text).casefold()


def kind_of(sentence: str) -> str:
    """Return what may be told of an error that few students made: its type."""
    match = re.match(r"(?:Student\w+: )?(\w+)(?:: |\n|$)", sentence)
    kind = getattr(builtins, match[1], None) if match else None
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind.__name__
    return "an error of another kind"


NO_KEY = (
    "The pseudonyms of a class are made with a key of the course, in {path}, and that "
    "cannot be used ({why}). Mend it or remove it (then all pseudonyms are new), and "
    "run the same command again."
)
