"""Plots are a part of the page: no style, no script, no id of another's."""

import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from jaxgrader.drawings import Drawing
from jaxgrader.reporting.plots import (
    Spread,
    arrivals,
    columns,
    shares,
    spreads,
    time_label,
)

NASTY = '$x_1$ <script>alert(1)</script> & "q" 李'


def drawings(name: str = "one") -> list[Markup]:
    drawing = Drawing(name, NASTY, NASTY)
    return [
        columns(drawing, ["0", NASTY], [3, 0]),
        shares(drawing, [NASTY], [[("passed", 1), ("failed", 3)]], [NASTY]),
        spreads(drawing, [Spread(NASTY, 0, 20, 50, 70, 100)]),
        arrivals(drawing, [-400.0, -3.0, 2.5]),
        arrivals(drawing, [0.0]),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_strict_policy_lets_it_be(number: int) -> None:
    svg = drawings()[number]
    root = ElementTree.fromstring(svg)  # noqa: S314
    for element in root.iter():
        kind = element.tag.rpartition("}")[2]
        assert kind in {
            "svg",
            "title",
            "desc",
            "g",
            "path",
            "text",
            "defs",
            "clipPath",
            "rect",
        }
        assert "style" not in element.attrib
        assert not any(key.startswith("on") for key in element.attrib)
    assert not re.search(r"#0000[0-9a-f]{2}", svg)  # every colour has its role
    assert "<script" not in svg
    assert root[0].text == root[1].text == NASTY
    named = [f"one-{word}" for word in ("title", "desc")]
    assert root.get("aria-labelledby") == " ".join(named)


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert drawings() == drawings()


def test_no_id_is_anothers() -> None:
    found = [
        re.findall(r'\bid="([^"]+)"', svg)
        for name in ("one", "two")
        for svg in drawings(name)[:1]
    ]
    assert not set(found[0]) & set(found[1])
    for svg in drawings():
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids)


def test_nothing_to_draw() -> None:
    drawing = Drawing("empty", "", "")
    assert "<svg" in columns(drawing, [], [])
    assert "<svg" in shares(drawing, ["a"], [[]], [""])


def test_times_as_people_say_them() -> None:
    labels = [time_label(hour) for hour in (-48, -0.5, 0, 3, 36)]
    assert labels == ["−2 d", "−30 min", "0", "+3 h", "+1.5 d"]  # noqa: RUF001
