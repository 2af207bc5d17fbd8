"""Pages and plots of one kind: the same colours and fonts, light and dark.

What it is: matplotlib's drawing as SVG that is a part of the page, with roles ("bar",
"late") for colours, which become classes; `drawings.css` says what they look like. And
the frame of each page (`templates/base.html`): its style sheet comes along, and its
content policy allows no script and no request. What it is not: the only place where a
number stands: each plot has its table beside it.

Guarantees: the same numbers give the same bytes; no style attribute and no script, so
that a strict content policy lets it be; no id that another plot has.
"""

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: In units of the page: as wide as a telephone's, so that letters are read there.
WIDTH = 300
#: Room at the sides, and below for the labels of an axis.
SIDE, BELOW = 4.0, 18.0
#: Role -> the colour that stands for it until it is a class.
ROLES = {
    name: f"#0000{number:02x}"
    for number, name in enumerate(
        (
            "ink",
            "faint",
            "line",
            "bar",
            "full",
            "late",
            "passed",
            "failed",
            "error",
            "timeout",
            "memory",
            "crashed",
            "internal",
            "none",
        ),
        start=1,
    )
}
CLASSES = {colour: name for name, colour in ROLES.items()}
SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Drawing:
    """A plot on the page; its title and description are read aloud in its place."""

    name: str
    title: str
    description: str

    def start(
        self, height: float, left: float = SIDE, below: float = BELOW
    ) -> tuple[Figure, Axes]:
        """Return a figure of a height, with room for labels, in units of the page."""
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        # matplotlib's own layouts draw everything twice.
        width, tall = (WIDTH - left - SIDE) / WIDTH, (height - below - 4) / height
        axes = figure.add_axes((left / WIDTH, below / height, width, tall))
        figure.set_facecolor("none")
        axes.set_facecolor("none")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(ROLES["line"])
        axes.tick_params(
            colors=ROLES["line"], labelcolor=ROLES["faint"], labelsize=10, length=0
        )
        axes.set_axisbelow(True)
        return figure, axes

    def finish(self, figure: Figure) -> Markup:
        """Return the figure as a part of the page."""
        file = io.StringIO()
        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": f"{self.name}-plot"}
        with mpl.rc_context(settings), warnings.catch_warnings():
            # Letters come from the reader's fonts, not from matplotlib's.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(file, format="svg", metadata=NO_METADATA)
        # Ours: every text in it passed matplotlib's escaping.
        root = ElementTree.fromstring(file.getvalue())  # noqa: S314
        for part in root.iter():
            self.clean(part)
            for style in part.findall(f"{{{SVG}}}style"):
                part.remove(style)
        self.name_root(root)
        ElementTree.register_namespace("", SVG)
        return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704

    def name_root(self, root: ElementTree.Element) -> None:
        """Let the plot have a size that follows the page, a name and a description."""
        for word in ("width", "height", "version"):
            root.attrib.pop(word, None)
        root.set("class", "plot")
        root.set("role", "img")
        root.set("aria-labelledby", f"{self.name}-title {self.name}-desc")
        for position, (tag, text) in enumerate(
            (("title", self.title), ("desc", self.description))
        ):
            element = ElementTree.Element(
                f"{{{SVG}}}{tag}", {"id": f"{self.name}-{tag}"}
            )
            element.text = text
            root.insert(position, element)

    def clean(self, element: ElementTree.Element) -> None:
        """Turn an element's style into attributes, and its colours into classes."""
        style = element.attrib.pop("style", "")
        classes = []
        for key, value in re.findall(r"([\w-]+):\s*([^;]+)", style):
            if role := CLASSES.get(value.strip()):
                classes.append(f"{key}-{role}")
            elif not key.startswith("font"):
                element.set(key, value.strip())
        if element.tag == f"{{{SVG}}}text" and not classes:
            classes.append("fill-ink")
        if classes:
            element.set("class", " ".join(classes))
        self.rename(element)

    def rename(self, element: ElementTree.Element) -> None:
        """Give ids that something refers to a name of this plot's; drop the others."""
        name = element.attrib.pop("id", "")
        if element.tag == f"{{{SVG}}}clipPath":
            element.set("id", f"{self.name}-{name}")
        if clip := element.get("clip-path"):
            element.set("clip-path", clip.replace("url(#", f"url(#{self.name}-"))


NO_METADATA: Any = {"Creator": None, "Date": None, "Format": None, "Type": None}


#: Where the frame of all pages lies.
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Style:
    """A page's style sheet, and the digest by which its content policy allows it."""

    sheet: Markup
    digest: str

    @classmethod
    def of(cls, file: Path) -> "Style":
        """Return what drawings need, and then what is in a file."""
        sheets = [Path(__file__).with_suffix(".css"), file]
        text = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
        digest = hashlib.sha256(text.encode()).digest()
        return cls(Markup(text), base64.b64encode(digest).decode())  # noqa: S704


def page(
    folder: Path, name: str, *filters: Callable[..., object], **facts: object
) -> str:
    """Return the page that `name.html` in a folder makes of some facts.

    It extends `base.html`; `name.css` is its style. All that is no `Markup` is escaped.
    """
    templates = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update({each.__name__: each for each in filters})
    style = Style.of(folder / f"{name}.css")
    return templates.get_template(f"{name}.html").render(style=style, **facts)


def say(axes: Axes, x: float, y: float, text: str, **where: Any) -> None:
    """Write a text as it is: a name with dollars is no formula."""
    axes.text(x, y, text, fontsize=10, color=ROLES["ink"], parse_math=False, **where)


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
