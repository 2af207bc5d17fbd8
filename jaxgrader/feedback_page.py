"""The student's feedback as a page: first what counts, then the notebook.

What it is: the exporter of generate_feedback. What it is not: a filter for secrets:
`HideTests` runs before it, and leaves in each graded cell's metadata what may be said.

Guarantees: no script and no request, and a content policy that allows neither. What a
student wrote is text, or passes `pages.clean_alone`; all else is escaped by jinja2.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from nbconvert.exporters import Exporter
from nbconvert.filters import Highlight2HTML, ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.notebooknode import NotebookNode
from traitlets import default
from traitlets.config import Config

from jaxgrader.differences import Difference, difference_of
from jaxgrader.drawings import TEMPLATES, page, shortened
from jaxgrader.formulas import environment, formula
from jaxgrader.pages import HELD, MARK, clean_alone, harmless


class FeedbackHTML(Exporter):
    """Turns an autograded notebook into the page that its student reads."""

    output_mimetype = "text/html"

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".html"

    @property
    def default_config(self) -> Config:
        """nbconvert's settings, but that what was printed in pieces is one text."""
        config = Config({"CoalesceStreamsPreprocessor": {"enabled": True}})
        config.merge(super().default_config)
        return config

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: Any = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return the page, and what nbconvert knows of it."""
        nb, resources = super().from_notebook_node(harmless(nb), resources, **kw)
        # A step may have added what a page does not show.
        nb = harmless(nb)
        return render(nb, resources["nbgrader"]), resources


@dataclass(frozen=True)
class Item:
    """A graded cell in the summary, or one that a grader commented on.

    state: how it ended, as a class of the style sheet; `word` says it.
    """

    anchor: str
    grade_id: str
    title: Markup
    state: str
    word: str
    score: float | None
    points: float | None
    sentence: str = ""
    difference: Difference | None = None
    hints: tuple[Markup, ...] = ()
    comment: Markup | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of the notebook; `item` is what the summary says of it."""

    anchor: str
    kind: str
    label: str
    source: Markup
    outputs: tuple[Markup, ...]
    item: Item | None


def render(nb: NotebookNode, ids: dict[str, Any]) -> str:
    """Return the page of a notebook; `ids` is what nbgrader says of it, and scores."""
    cells = [cell_of(cell, number) for number, cell in enumerate(nb.cells, start=1)]
    items = [cell.item for cell in cells if cell.item is not None]
    return page(
        TEMPLATES,
        "feedback",
        points,
        ids=ids,
        cells=cells,
        items=items,
        waiting=sum(item.state == "waiting" for item in items),
        share=share(ids["score"], ids["max_score"]),
    )


def cell_of(cell: NotebookNode, number: int) -> Cell:
    """Return how a cell is shown."""
    item = item_of(cell, f"cell-{number}")
    info = cell.metadata.get("nbgrader", {})
    label = ""
    if info.get("solution"):
        label = "Your answer"
    elif info.get("task"):
        label = "Task"
    elif info.get("grade"):
        label = "Test"
    if cell.cell_type == "code":
        source = Markup(Highlight2HTML(pygments_lexer="ipython3")(cell.source))  # noqa: S704
    elif cell.cell_type == "markdown":
        source = markdown(cell.source, cell.get("attachments", {}))
    else:
        source = Markup("<pre>{}</pre>").format(cell.source)
    outputs = [output_of(output) for output in cell.get("outputs", [])]
    shown = tuple(output for output in outputs if output)
    return Cell(f"cell-{number}", cell.cell_type, label, source, shown, item)


def item_of(cell: NotebookNode, anchor: str) -> Item | None:
    """Return what the summary says of a cell, None for nothing."""
    info, told = cell.metadata.get("nbgrader", {}), cell.metadata.get("jaxgrader", {})
    comment = (info.get("comment") or "").strip()
    graded = info.get("grade") or info.get("task")
    if not graded and not comment:
        return None
    test = info.get("grade") and not info.get("solution")
    score, most = info.get("score"), info.get("points")
    state = state_of(told, score or 0.0, most or 0.0) if graded else "comment"
    about = told.get("about", "") if test else BY_HAND[cell.cell_type]
    # The first sentence: authors go on with what the numbers should be.
    about = re.split(r"(?<=[.!?])\s", about, maxsplit=1)[0]
    # The check's own message has the numbers in it, in columns.
    compared = told.get("compared")
    sentence = compared["note"] if compared else told.get("sentence", "")
    title = Markup("<code>{}</code>").format(info["grade_id"])
    return Item(
        anchor=anchor,
        grade_id=info["grade_id"],
        title=inline(about) if about else title,
        state=state,
        word=WORDS[state] if test or state not in SCORED else "Read and graded",
        score=None if state == "waiting" else score,
        points=most if graded else None,
        sentence=shortened(sentence, LONGEST),
        difference=difference_of(compared, f"plot-{anchor}") if compared else None,
        hints=tuple(inline(hint) for hint in told.get("hints", ())),
        comment=markdown(comment) if comment else None,
    )


def state_of(told: dict[str, Any], score: float, most: float) -> str:
    """Return how a graded cell ended, where the score has the last word."""
    if told.get("waiting"):
        return "waiting"
    outcome = told.get("outcome")
    if outcome in LIMITS and not score:
        return str(outcome)
    return "passed" if score >= most else "part" if score > 0 else "failed"


def share(score: float, most: float) -> float:
    """Return a score in per cent, for a drawing."""
    return round(100 * min(1.0, max(0.0, score / most)), 1) if most else 100.0


def points(number: float) -> str:
    """Return a number of points as people write it."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


# What others wrote.


class Renderer(IPythonRenderer):
    """nbconvert's Markdown, with its formulas set aside until the rest is clean."""

    def __init__(self, attachments: dict[str, Any]) -> None:
        super().__init__(
            escape=False, exclude_anchor_links=True, attachments=attachments
        )
        self.formulas: list[Markup] = []

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """Handle a heading: it stands below the page's own."""
        return super().heading(text, min(level + 2, 6), **attrs)

    def keep(self, made: Markup) -> str:
        """Return the mark in place of a formula."""
        self.formulas.append(made)
        return f"{MARK}{len(self.formulas) - 1}{MARK}"

    def block_math(self, body: str) -> str:
        """Handle a formula that stands alone."""
        return self.keep(formula(body, block=True))

    def inline_math(self, body: str) -> str:
        """Handle a formula in a line."""
        return self.keep(formula(body))

    def latex_environment(self, name: str, body: str) -> str:
        """Handle an environment of TeX's."""
        return self.keep(environment(name, body))

    def insert(self, match: re.Match[str]) -> str:
        """Return the formula for a mark; nothing for one that a student made up."""
        number = int(match[1])
        return self.formulas[number] if number < len(self.formulas) else ""


def markdown(source: str, attachments: dict[str, Any] | None = None) -> Markup:
    """Return Markdown as HTML; the text itself where that fails."""
    renderer = Renderer(attachments or {})
    try:
        text = MarkdownWithMath(renderer).render(source.replace(MARK, ""))
    except Exception:  # an image that is not attached, among others
        return Markup("<pre>{}</pre>").format(source)
    cleaned = clean_alone(text)
    # No mark is in an attribute: `is_alone` sees to it.
    made = re.sub(f"{MARK}([0-9]{{1,6}}){MARK}", renderer.insert, cleaned)
    return Markup(made)  # noqa: S704


def inline(source: str) -> Markup:
    """Return Markdown of one paragraph without the paragraph."""
    made = markdown(source).strip()
    inner = made.removeprefix("<p>").removesuffix("</p>")
    return Markup(made if "<p>" in inner else inner)  # noqa: S704


def output_of(output: NotebookNode) -> Markup | None:
    """Return an output as HTML, None for what a page does not show."""
    if output.output_type == "stream":
        return terminal(output.text, "said")
    if output.output_type == "error":
        return terminal("\n".join(output.traceback), "said raised")
    data = output.data
    for kind, make in MAKERS.items():
        if kind in data and (made := make(data[kind], data)):
            return made
    return None


def terminal(text: str, name: str) -> Markup:
    """Return text as a terminal shows it, colours included."""
    made = clean_alone(ansi2html(text))
    return Markup(f'<pre class="{name}">{made}</pre>')  # noqa: S704


def as_html(text: str, data: dict[str, str]) -> Markup | None:
    """Return an output in HTML, in a frame that the keyboard can scroll."""
    made = clean_alone(text)
    return Markup(f"{FRAME}{made}</div>") if made.strip() else None  # noqa: S704


def as_markdown(text: str, data: dict[str, str]) -> Markup:
    """Return an output in Markdown; formulas are Markdown, too."""
    return Markup(f"{FRAME}{markdown(text)}</div>")  # noqa: S704


def image(kind: str, data: dict[str, str], encoded: str) -> Markup | None:
    """Return an image that the notebook holds."""
    address = f"data:{kind};base64,{encoded}"
    if not HELD.match(address):
        return None
    said = data.get("text/plain", "").strip()[:120] or "an image"
    return Markup('<img src="{}" alt="Output: {}">').format(address, said)


def as_svg(text: str, data: dict[str, str]) -> Markup | None:
    """Return a drawing as an image: no script in it runs."""
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return image("image/svg+xml", data, encoded)


#: By how much they show; the first that a page can show is taken.
MAKERS: dict[str, Callable[[str, dict[str, str]], Markup | None]] = {
    "text/html": as_html,
    "text/markdown": as_markdown,
    "image/svg+xml": as_svg,
    "image/png": lambda text, data: image("image/png", data, text),
    "image/jpeg": lambda text, data: image("image/jpeg", data, text),
    "text/latex": as_markdown,
    "text/plain": lambda text, data: terminal(text, "said"),
}
#: Characters of a message in the summary; the notebook below has all of it.
LONGEST = 700
FRAME = '<div class="shown" role="group" aria-label="Output" tabindex="0">'
#: What a student has to be told of how a test ended, beyond its score.
LIMITS = {"error", "timeout", "memory", "crashed"}
SCORED = {"passed", "part", "failed"}
WORDS = {
    "passed": "Passed",
    "part": "In part",
    "failed": "Failed",
    "error": "Error in your code",
    "timeout": "Took too long",
    "memory": "Out of memory",
    "crashed": "The kernel died",
    "waiting": "Not graded yet",
    "comment": "Comment",
}
BY_HAND = {
    "code": "Your code.",
    "markdown": "Your text.",
    "raw": "Your text.",
}
