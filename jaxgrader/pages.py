"""Notebooks as web pages, written by somebody else: what may be in them.

What it is: a cleaner of HTML and of notebooks, and nbconvert's `HTMLExporter` with it
for the formgrader's view of a submission. What a submission shows or says cannot run as
script, imitate the page's controls, or break it. What it is not: the feedback's page
(`feedback_page.py`), which uses it, nor a filter for secrets (`feedback.py`).

nbconvert's own `sanitize_html` is on, and it is not enough here (nbconvert 7.17,
nbgrader 0.9.6): nbgrader's templates do not clean Markdown, and undo a cleaning with
`strip_files_prefix`; nbconvert writes an image's width and a cell's number into the
page as they are; and its list of tags has no paragraph. So the notebook is reduced to
what a page needs, and all HTML goes through bleach, as its last step.
"""

import html
import re
from collections.abc import Callable, Iterable
from typing import Any

import bleach
from bleach.css_sanitizer import CSSSanitizer
from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.filters import strip_files_prefix
from nbformat.notebooknode import NotebookNode, from_dict
from nbformat.v4 import new_notebook, new_output
from traitlets import Bool

_TAGS = """
    a abbr b blockquote br caption code dd del details div dl dt em figcaption figure
    h1 h2 h3 h4 h5 h6 hr i img kbd li mark ol p pre s small span strong sub summary
    sup table tbody td tfoot th thead tr u ul var
"""
#: Links: to other pages, never to a page made of the link itself.
LINK = re.compile(r"(https?:|mailto:|[^:]*([/?#]|$))", re.IGNORECASE)
#: Images: the same, and those that the notebook holds. Scripts do not run in an SVG
#: that is an image.
IMAGE = re.compile(
    r"(https?:|data:image/(png|jpeg|gif|webp|svg\+xml);base64,|[^:]*([/?#]|$))",
    re.IGNORECASE,
)
#: Images that the notebook holds.
HELD = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*$")
NOT_HELD = "[Not shown: {name}. Its file is not a part of the notebook.]"
#: Stands in a text for what comes in there later: never in an attribute.
MARK = "\ue000"
#: Classes: Pygments', pandas' and a terminal's. The formgrader's controls have others.
CLASSES = re.compile(r"([a-z]{1,3}\d?|highlight|dataframe|language-\w+|ansi-[a-z-]+)")
STYLES = ("text-align", "font-weight", "font-style", "color", "background-color")

#: What a page shows of an output, and what of an attachment. Scripts are not among it.
SHOWN = {
    *("text/plain", "text/html", "text/markdown", "text/latex"),
    *("image/png", "image/jpeg", "image/svg+xml"),
}
ATTACHED = re.compile(r"image/(png|jpeg|gif|webp|svg\+xml)")
#: Metadata of cells that a page needs. The grader has written all of it.
KEPT = ("nbgrader", "jaxgrader")
#: What the formgrader tells its template of a student.
NAMES = ("student", "first_name", "last_name", "notebook_path")


class SafeHTML(HTMLExporter):
    """`HTMLExporter` for other people's notebooks: `c.HTMLExporter` configures it."""

    sanitize_html = Bool(True, help="See nbconvert's HTMLExporter.").tag(config=True)
    exclude_anchor_links = Bool(True, help="See nbconvert's HTMLExporter.").tag(
        config=True
    )

    def default_filters(self) -> Iterable[tuple[str, Any]]:
        """Return the filters of the templates; the last of a name counts."""
        yield from super().default_filters()  # type: ignore[no-untyped-call]
        yield "clean_html", clean
        # nbgrader's templates apply it to Markdown last, and it can make a new link.
        yield "strip_files_prefix", lambda text: clean(strip_files_prefix(text))

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Render Markdown; show the text itself where that fails."""
        try:
            text = super().markdown2html(context, source)
        except Exception:  # an image that is not attached, among others
            text = f"<pre>{html.escape(source)}</pre>"
        return clean(text)

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return the page, and what nbconvert knows of it."""
        resources = dict(resources or {})
        for name in {*NAMES} & {*resources}:
            resources[name] = html.escape(str(resources[name]))
        return super().from_notebook_node(harmless(nb), resources, **kw)


def clean(element: Any) -> str:
    """Return HTML without what could run, or pass for a part of the page."""
    text = element.decode() if isinstance(element, bytes) else str(element)
    if re.search(r"<\s*(script|style)", text, re.IGNORECASE):
        soup = BeautifulSoup(text, features="html.parser")
        for node in soup(["script", "style"]):
            node.decompose()
        text = str(soup)
    return bleached(text, is_allowed)


def clean_alone(text: str) -> str:
    """Return HTML as `clean` does, for a page that needs nothing but itself.

    No image comes from elsewhere, and nothing has a style of its own: a content policy
    may forbid both. Images and links have names.
    """
    cleaned = bleached(named(text), is_alone)
    # Broken HTML hides an image from one parser, and not from the other.
    return bleached(named(cleaned), is_alone) if "<img" in cleaned else cleaned


def named(text: str) -> str:
    """Return HTML whose images and links have names, for those who do not see them."""
    if "<" not in text:
        return text
    soup = BeautifulSoup(text, features="html.parser")
    for node in soup(["script", "style"]):
        node.decompose()
    for image in soup("img"):
        said = re.sub(f"{MARK}[0-9]*", "", str(image.get("alt", ""))).strip()
        name = said or "an image without a description"
        if HELD.match(str(image.get("src", ""))):
            image["alt"] = name
        else:
            image.replace_with(NOT_HELD.format(name=name))
    for link in soup("a"):
        if not link.get_text(strip=True) and not link.find("img"):
            link.unwrap()
    return str(soup)


def bleached(text: str, attributes: Callable[[str, str, str], bool]) -> str:
    """Return HTML of known elements and of allowed attributes.

    The last step: what comes before may be fooled, it may not.
    """
    cleaned: str = bleach.clean(
        text,
        tags=set(_TAGS.split()),
        attributes=attributes,
        protocols=["http", "https", "mailto", "data"],
        css_sanitizer=CSSSanitizer(allowed_css_properties=STYLES),
        strip=True,
    )
    return cleaned


def is_allowed(tag: str, name: str, value: str) -> bool:
    """Whether an element may have an attribute."""
    # Browsers read entities, and no control characters or blanks, in addresses.
    address = re.sub(r"[\x00-\x20\x7f-\xa0]", "", html.unescape(value))
    if name in ("href", "src"):
        pattern = {"a": LINK, "img": IMAGE}.get(tag)
        return pattern is not None and pattern.match(address) is not None
    if name == "class":
        return all(CLASSES.fullmatch(word) for word in value.split())
    if name in ("width", "height", "colspan", "rowspan", "start", "border"):
        return re.fullmatch(r"\d{1,4}%?", value) is not None
    return name in ("alt", "title", "align", "style")


def is_alone(tag: str, name: str, value: str) -> bool:
    """Whether an element of a page that needs nothing but itself may have it."""
    if name == "style" or MARK in html.unescape(value):
        return False
    if (tag, name) == ("img", "src"):
        return HELD.match(value) is not None
    return is_allowed(tag, name, value)


def harmless(nb: NotebookNode) -> NotebookNode:
    """Return a notebook with only what a page shows, of the types that it should be."""
    cells = [harmless_cell(cell) for cell in nb.cells if cell.cell_type in MAKERS]
    for number, cell in enumerate(cells):
        cell.id = cell.id or f"cell-{number}"
    made: NotebookNode = new_notebook(cells=cells)
    return made


def harmless_cell(cell: NotebookNode) -> NotebookNode:
    """Return a cell without metadata of the student's."""
    metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
    kept = {
        "cell_type": cell.cell_type,
        "id": str(cell.get("id", "")),
        "source": as_text(cell.source),
        "metadata": metadata,
    }
    MAKERS[cell.cell_type](cell, kept)
    made: NotebookNode = from_dict(kept)
    return made


def add_code(cell: NotebookNode, kept: dict[str, Any]) -> None:
    """Add what a code cell has shown."""
    count = cell.get("execution_count")
    kept["execution_count"] = count if isinstance(count, int) else None
    outputs = [harmless_output(output) for output in cell.get("outputs", [])]
    kept["outputs"] = [output for output in outputs if output is not None]


def add_attachments(cell: NotebookNode, kept: dict[str, Any]) -> None:
    """Add the images that a Markdown cell holds."""
    kept["attachments"] = {
        str(name): {
            kind: as_text(data)
            for kind, data in images.items()
            if ATTACHED.fullmatch(kind)
        }
        for name, images in cell.get("attachments", {}).items()
        if any(ATTACHED.fullmatch(kind) for kind in images)
    }


MAKERS: dict[str, Callable[[NotebookNode, dict[str, Any]], None]] = {
    "code": add_code,
    "markdown": add_attachments,
    "raw": lambda cell, kept: None,
}


def harmless_output(output: NotebookNode) -> NotebookNode | None:
    """Return an output as a page may show it, None for what it does not show."""
    kind = output.output_type
    made: NotebookNode
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        made = new_output("stream", name=name, text=as_text(output.text))
    elif kind == "error":
        lines = [as_text(line) for line in output.get("traceback", [])]
        ename, evalue = as_text(output.ename), as_text(output.evalue)
        made = new_output("error", ename=ename, evalue=evalue, traceback=lines)
    elif kind in ("display_data", "execute_result"):
        data = {key: as_text(output.data[key]) for key in SHOWN & {*output.data}}
        # A page that scripts make is no page without them.
        if "<script" in data.get("text/html", "").lower() and "text/plain" in data:
            del data["text/html"]
        made = new_output(kind, data=data, metadata=sizes(output.get("metadata", {})))
    else:
        return None
    return made


def sizes(metadata: Any) -> dict[str, Any]:
    """Return the width and the height of an output's images."""
    found = {}
    for kind in ("image/png", "image/jpeg"):
        wanted = metadata.get(kind) if isinstance(metadata, dict) else None
        sized = wanted if isinstance(wanted, dict) else {}
        found[kind] = {
            key: sized[key]
            for key in ("width", "height")
            if isinstance(sized.get(key), int | float)
        }
    return found


def as_text(value: Any) -> str:
    """Return a text that a notebook may also hold as a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value)
