"""Plots as SVG that is a part of the page: its colours, its fonts, light and dark.

What it is: matplotlib's drawing, with roles ("bar", "late") for colours, which become
classes; the page's style sheet says what they look like. What it is not: the only place
where a number stands: each plot has its table beside it.

Guarantees: the same numbers give the same bytes; no style attribute and no script, so
that a strict content policy lets it be; no id that another plot has.
"""

import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
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


def columns(
    drawing: Drawing, labels: Sequence[str], counts: Sequence[int], last: str = "bar"
) -> Markup:
    """Draw counts as columns; `last` is the role of the last one."""
    figure, axes = drawing.start(150)
    places = range(len(labels))
    roles = ["bar"] * (len(labels) - 1) + [last]
    axes.bar(places, counts, width=0.86, color=[ROLES[role] for role in roles])
    most = max(counts, default=0)
    for place, count in zip(places, counts, strict=True):
        if count:
            say(axes, place, count + most * 0.02, str(count), ha="center", va="bottom")
    axes.set_ylim(0, max(1, most * 1.14))
    axes.set_yticks([])
    axes.set_xticks(places, labels, parse_math=False)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    return drawing.finish(figure)


def shares(
    drawing: Drawing,
    names: Sequence[str],
    parts: Sequence[Sequence[tuple[str, int]]],
    notes: Sequence[str],
) -> Markup:
    """Draw what each whole is made of, as (role, count); the names stand above."""
    figure, axes = drawing.start(8 + 34 * len(names), below=2)
    for row, (name, part, note) in enumerate(zip(names, parts, notes, strict=True)):
        total = sum(count for _, count in part) or 1
        left = 0.0
        axes.barh(row, 1, height=0.32, color=ROLES["none"])
        for role, count in part:
            width = count / total
            axes.barh(row, width, left=left, height=0.32, color=ROLES[role])
            left += width
        say(axes, 0, row - 0.27, shortened(name, 36), ha="left", va="bottom")
        say(axes, 1, row - 0.27, note, ha="right", va="bottom")
    axes.set_ylim(len(names) - 0.7, -0.75)
    axes.set_xlim(0, 1)
    axes.axis("off")
    return drawing.finish(figure)


@dataclass(frozen=True)
class Spread:
    """A distribution in five numbers: the quartiles, and all but a tenth of it."""

    name: str
    low: float
    lower: float
    median: float
    upper: float
    high: float


def spreads(drawing: Drawing, found: Sequence[Spread]) -> Markup:
    """Draw distributions of percentages, one below the other."""
    figure, axes = drawing.start(26 + 34 * len(found), left=10)
    for row, each in enumerate(found):
        axes.barh(row, 100, height=0.3, color=ROLES["none"])
        axes.plot([each.low, each.high], [row, row], color=ROLES["faint"], lw=1)
        width = max(0.8, each.upper - each.lower)
        axes.barh(row, width, left=each.lower, height=0.3, color=ROLES["bar"])
        middle = [each.median, each.median]
        axes.plot(middle, [row - 0.2, row + 0.2], color=ROLES["ink"], lw=2)
        say(axes, 0, row - 0.26, shortened(each.name, 30), ha="left", va="bottom")
        said = f"median {each.median:.0f} %"
        say(axes, 100, row - 0.26, said, ha="right", va="bottom")
    axes.set_ylim(len(found) - 0.6, -0.75)
    axes.set_xlim(-1, 101)
    axes.set_yticks([])
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"])
    return drawing.finish(figure)


def arrivals(drawing: Drawing, hours: Sequence[float]) -> Markup:
    """Draw how many submissions were there, by hours before (-) and after a deadline.

    What came more than a fortnight earlier stands at the left edge.
    """
    figure, axes = drawing.start(150, left=34)
    earliest = max(min(hours), -14 * 24.0)
    shown = sorted(max(hour, earliest) for hour in hours)
    latest = max(shown[-1], 0.0)
    room = max(1.0, (latest - earliest) * 0.06)
    places = [shown[0] - room, *shown, latest + room]
    counts = [0, *range(1, len(shown) + 1), len(shown)]
    if latest > 0:
        axes.axvspan(0, latest + room, color=ROLES["late"], alpha=0.14, lw=0)
    across = [place for place in places for _ in "ab"][1:]
    up = [count for count in counts for _ in "ab"][:-1]
    area = ([*across, across[-1], across[0]], [*up, 0, 0])
    axes.fill(*area, color=ROLES["bar"], alpha=0.25, lw=0)
    axes.plot(across, up, color=ROLES["bar"], lw=1.6)
    axes.axvline(0, color=ROLES["late"], lw=1.2, ls=(0, (3, 2)))
    early = earliest < -latest
    align = ("right", -0.015) if early else ("left", 0.015)
    place = align[1] * (places[-1] - places[0])
    say(axes, place, len(shown) * 1.07, "deadline", ha=align[0], va="bottom")
    axes.set_ylim(0, len(shown) * 1.22)
    axes.set_xlim(places[0], places[-1])
    axes.set_yticks([0, len(shown)])
    ticks = time_ticks(places[0], places[-1])
    axes.set_xticks(ticks, [time_label(hour) for hour in ticks])
    return drawing.finish(figure)


def time_ticks(first: float, last: float) -> list[float]:
    """Return round times between two, the deadline among them."""
    width = last - first
    steps = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 672, 2016, 8760)
    step = next((s for s in steps if width / s <= 6), width / 4)
    return [n * step for n in range(math.ceil(first / step), int(last // step) + 1)]


def time_label(hour: float) -> str:
    """Return a time against the deadline as people say it."""
    if hour == 0:
        return "0"
    size = abs(hour)
    text = (
        f"{size / 24:g} d"
        if size >= 24
        else f"{size:g} h"
        if size >= 1
        else f"{60 * size:g} min"
    )
    return f"{'−' if hour < 0 else '+'}{text}"  # noqa: RUF001


def say(axes: Axes, x: float, y: float, text: str, **where: Any) -> None:
    """Write a text as it is: a name with dollars is no formula."""
    axes.text(x, y, text, fontsize=10, color=ROLES["ink"], parse_math=False, **where)


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
