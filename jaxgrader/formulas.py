"""Formulas as MathML, which browsers show without a script and without a request.

What it is: latex2mathml, and what is left of its result. That library writes what it
reads, markup and links included, into its text; only elements that lay out a formula,
with harmless attributes, pass here, and all text is escaped. What it is not: TeX: what
latex2mathml does not know is shown as its source.
"""

import html
import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markupsafe import Markup

#: Characters of a formula that is worth an attempt.
LONGEST = 4000
NAMESPACE = "http://www.w3.org/1998/Math/MathML"
TAGS = set(
    """math mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow
    ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover
    none""".split()  # noqa: SIM905
)
#: Attributes that only lay out, by what their values look like.
LENGTH = r"-?[\d.]*(em|ex|px|pt|mu)?"
ATTRIBUTES = {
    "displaystyle|stretchy|fence|separator|symmetric|movablelimits|largeop|accent": (
        "true|false"
    ),
    "accentunder": "true|false",
    "scriptlevel": r"[+-]?\d",
    "form": "prefix|infix|postfix",
    "mathvariant": "[a-z-]{1,30}",
    "columnalign|rowalign": "(left|right|center|top|bottom|baseline| )*",
    "width|height|depth|lspace|rspace|minsize|maxsize|linethickness": LENGTH,
    "columnspacing|rowspacing": f"({LENGTH}| )*",
}
ALLOWED = {
    name: re.compile(values)
    for names, values in ATTRIBUTES.items()
    for name in names.split("|")
}
#: Environments that MathJax knows and latex2mathml does not, by those that it does.
SAME = (("aligned", "align*"), ("gathered", "align*"), ("equation*", "equation"))
#: What latex2mathml leaves in a formula that it did not understand.
NOT_READ = re.compile(r"\\[A-Za-z]+|&")


def formula(tex: str, block: bool = False) -> Markup:
    """Return a formula as MathML; its source, where it cannot be read."""
    wide = "block" if block else "inline"
    try:
        root = rebuilt(convert(tex, wide))
    except Exception:  # whatever a student's formula does to the library
        return Markup('<code class="tex">{}</code>').format(tex.strip())
    root.set("xmlns", NAMESPACE)
    root.set("display", wide)
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    made = Markup(text)  # noqa: S704  rebuilt from elements that lay out a formula
    if not block:
        return made
    # It may be wider than the page: then the keyboard scrolls it.
    return Markup(
        '<span class="formula" role="group" aria-label="Formula" tabindex="0">{}</span>'
    ).format(made)


def convert(tex: str, display: str) -> Element:
    """Return what latex2mathml makes of a formula.

    Raises:
        Exception: of any kind, where it makes nothing of it.
    """
    if len(tex) > LONGEST:
        raise ValueError("the formula is too long")
    for name, known in SAME:
        tex = tex.replace(f"{{{name}}}", f"{{{known}}}")
    return convert_to_element(tex, display=display)


def rebuilt(element: Element) -> Element:
    """Return an element anew, with what lays out a formula and nothing else.

    Raises:
        ValueError: where it holds anything else, or TeX that was not understood.
    """
    tag = element.tag.rpartition("}")[2]
    if tag not in TAGS:
        raise ValueError(f"{tag} does not lay out a formula")
    made = Element(tag)
    for name, value in element.attrib.items():
        if name in ALLOWED and ALLOWED[name].fullmatch(value):
            made.set(name, value)
    # Characters stand in it as references: &#x0222B;
    text = element.text or ""
    if NOT_READ.fullmatch(text):
        raise ValueError(f"{text} was not understood")
    made.text = html.unescape(text)
    made.extend(rebuilt(child) for child in element)
    return made


def environment(name: str, body: str) -> Markup:
    """Return an environment of TeX's, such as align, as MathML."""
    return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)
