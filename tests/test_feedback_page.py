"""The pieces of the feedback page; the page itself is in test_feedback and browser/."""

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_output

from jaxgrader.feedback_page import inline, markdown, output_of, points, share
from jaxgrader.pages import MARK
from tests import zoo


@pytest.mark.parametrize("payload", [*zoo.HTML, *zoo.MARKDOWN])
def test_nothing_runs_and_nothing_is_asked_for(payload: str) -> None:
    data = {"text/html": payload, "text/plain": payload}
    for made in (
        markdown(payload),
        output_of(new_output("display_data", data=data)),
        output_of(new_output("stream", text=payload)),
        output_of(new_output("error", ename="", evalue="", traceback=[payload])),
    ):
        soup = BeautifulSoup(made or "", features="html.parser")
        assert not soup(["script", "style", "iframe", "object", "svg", "input", "form"])
        for image in soup("img"):
            assert image["src"]
            assert image["alt"]
        for element in soup(True):
            assert not {"style", "id", "onclick", "onerror"} & {*element.attrs}
            assert str(element.get("src", "data:image/")).startswith("data:image/")
            assert not str(element.get("href", "")).startswith("javascript")


def test_images_come_from_the_notebook() -> None:
    held = f"![a dot](data:image/png;base64,{zoo.PNG})"
    assert 'alt="a dot"' in markdown(held)
    for address in ("https://evil.example/x.png", "//evil.example/x.png", "x.png"):
        made = markdown(f"![a dot]({address})")
        assert "<img" not in made
        assert "[Not shown: a dot." in made


def test_attached_images() -> None:
    attached = {"dot.png": {"image/png": zoo.PNG}}
    assert "<img" in markdown("![a dot](attachment:dot.png)", attached)
    assert markdown("![<b>](attachment:other.png)").startswith("<pre>![&lt;b&gt;]")


def test_formulas_come_in_last() -> None:
    made = markdown("$a_1$ and `$b$`, <b>$c$</b>")
    assert made.count("<math") == 2
    assert "<code>$b$</code>" in made


def test_marks_of_formulas_cannot_be_forged() -> None:
    forged = f"$x$ {MARK}0{MARK} &#xe000;0&#xe000; {MARK}7{MARK}"
    made = markdown(f'{forged} <a title="$x$ &#xe000;0&#xe000;" href="/$x$">b</a>')
    soup = BeautifulSoup(made, features="html.parser")
    for element in soup(True):
        assert not any("math" in str(value) for value in element.attrs.values())
    assert soup.get_text().count("b") == 1


def test_a_paragraph_in_a_line() -> None:
    assert inline("double *after* it") == "double <em>after</em> it"
    assert inline("a\n\nb") == "<p>a</p>\n<p>b</p>"


def test_headings_stand_below_the_pages_own() -> None:
    assert "<h3>One</h3>" in markdown("# One")
    assert "<h6>Four</h6>" in markdown("#### Four")


def test_colours_of_a_terminal() -> None:
    made = output_of(new_output("stream", text="\x1b[31mred\x1b[0m \x1b[38;5;9mother"))
    assert made is not None
    assert '<span class="ansi-red-fg">red</span>' in made
    assert "style=" not in made


@pytest.mark.parametrize(
    ("data", "begin"),
    [
        ({"text/html": "<script>1</script>", "text/plain": "a"}, '<pre class="said">a'),
        ({"image/png": '" onerror=1', "text/plain": "<a>"}, '<pre class="said">&lt;a'),
        ({"image/png": zoo.PNG, "text/plain": '"<'}, '<img src="data:image/png;base64'),
        ({"image/svg+xml": "<svg/>"}, '<img src="data:image/svg+xml;base64,'),
        ({"text/latex": "$$x$$"}, '<div class="shown"'),
    ],
)
def test_the_best_of_an_output(data: dict[str, str], begin: str) -> None:
    made = output_of(new_output("display_data", data=data))
    assert str(made).startswith(begin)


def test_points() -> None:
    assert [points(number) for number in (2.0, 0.5, 1 / 3, 0.0)] == [
        *("2", "0.5", "0.33", "0"),
    ]
    assert [share(*pair) for pair in ((1, 4), (-1, 4), (9, 4), (0, 0))] == [
        *(25.0, 0.0, 100.0, 100.0),
    ]
