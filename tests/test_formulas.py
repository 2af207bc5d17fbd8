"""Formulas as MathML: what students write in them is laid out, or shown as text."""

from xml.etree import ElementTree

import pytest

from jaxgrader.formulas import ALLOWED, LONGEST, TAGS, formula
from tests.zoo import HTML, RUN


def tags(tex: str) -> list[str]:
    root = ElementTree.fromstring(formula(tex))  # noqa: S314
    return [element.tag.rpartition("}")[2] for element in root.iter()]


@pytest.mark.parametrize(
    ("tex", "tag"),
    [
        (r"\frac{a}{b}", "mfrac"),
        (r"h_{\text{new}}", "msub"),
        (r"\sqrt[3]{x}", "mroot"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "mtable"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "mtable"),
        (r"x < y", "mo"),
    ],
)
def test_it_lays_out(tex: str, tag: str) -> None:
    assert tag in tags(tex)


def test_signs_are_signs() -> None:
    assert "⊙" in formula(r"z \odot h")
    assert "&lt;" in formula("x < y")


@pytest.mark.parametrize(
    "tex", [r"\frac", r"\unknown{x}", "a & b", "{" * 1990, "x" * (LONGEST + 1)]
)
def test_what_cannot_be_read_is_shown(tex: str) -> None:
    made = formula(tex)
    assert made.startswith('<code class="tex">')
    assert ElementTree.fromstring(made).text == tex  # noqa: S314


@pytest.mark.parametrize(
    "tex",
    [
        *(rf"\text{{{payload}}}" for payload in HTML),
        *HTML,
        rf"\href{{javascript:{RUN}}}{{x}}",
        rf"\style{{background:url(javascript:{RUN})}}{{x}}",
        rf"\class{{x' onclick={RUN}}}{{x}}",
        rf"\color{{red' onclick='{RUN}}}{{x}}",
        rf"\text{{&lt;img src=x onerror={RUN}&gt;}}",
        rf"\hspace{{1em' onclick='{RUN}}}",
    ],
)
@pytest.mark.parametrize("block", [True, False])
def test_nothing_else_is_in_it(tex: str, block: bool) -> None:
    root = ElementTree.fromstring(formula(tex, block))  # noqa: S314
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        assert tag in TAGS | {"code", "span"}
        if tag in TAGS - {"math"}:
            assert {*element.attrib} <= {*ALLOWED}
        assert not {"href", "style"} & {*element.attrib}
        assert not any(name.startswith("on") for name in element.attrib)
