"""Got and expected on a page: a line of numbers as a table, more of them as a plot."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from jaxgrader.comparisons import compared_in
from jaxgrader.differences import LINE, Row, difference_of


def compared(got: Any, expected: Any) -> Any:
    with pytest.raises(AssertionError) as raised:
        np.testing.assert_array_equal(got, expected)
    found = compared_in(raised.value)
    assert found is not None
    return found


def test_a_line_is_a_table() -> None:
    found = difference_of(compared(np.array([[1, 2], [3, 4]]), [[1, 2], [0, 4]]), "a")
    assert found.caption == "1 of 4 numbers differ"
    assert found.rows[1:3] == [
        Row("[0, 1]", "2", "2", differs=False),
        Row("[1, 0]", "3", "0", differs=True),
    ]
    assert len(found.rows) == 4
    assert found.plot is None


def test_a_number_has_no_index() -> None:
    (row,) = difference_of(compared(2, 3), "a").rows
    assert row == Row("value", "2", "3", differs=True)


def test_shapes_that_differ() -> None:
    found = difference_of(compared(np.ones(5), np.ones((5, 1, 2))), "a")
    assert found.rows[0] == Row("shape", "(5,)", "(5, 1, 2)", differs=True)
    assert found.rows[1].got == "1, 1, 1, …"


def test_more_than_a_line_is_a_plot() -> None:
    got = np.arange(LINE + 1.0)
    got[3] = np.nan
    found = difference_of(compared(got, np.zeros(LINE + 1)), "one")
    assert found.plot is not None
    root = ElementTree.fromstring(found.plot)  # noqa: S314
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "title", "desc", "g", "path", "text", "defs", "clipPath", "rect")
    }
    assert not [e for e in root.iter() if "style" in e.attrib]
    # A point for each finite number.
    (points,) = (e for e in root.iter() if e.get("class") == "stroke-late")
    assert points.get("d", "").count("M") == LINE
    assert set(re.findall(r'\bid="([^"]+)"', found.plot)) >= {"one-title", "one-desc"}


def test_a_part_of_many() -> None:
    found = difference_of(compared(np.arange(1000) % 997, np.arange(1000)), "a")
    assert found.caption == "3 of 1000 numbers differ"
    assert "Numbers 800 to 999 of 1000" in str(found.plot)


@pytest.mark.parametrize(
    ("got", "drawn"),
    [(1e308, True), (np.inf, False), (np.nan, False), (1 + 1j, False), (True, True)],
)
def test_what_can_be_drawn(got: Any, drawn: bool) -> None:
    found = difference_of(compared(np.full(20, got), np.zeros(20, bool)), "a")
    assert (found.plot is not None) is drawn
    assert len(found.rows) == 8
