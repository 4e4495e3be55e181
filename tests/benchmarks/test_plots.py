from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.plots import PLOTS

pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")

ROWS: dict[str, list[dict[str, Any]]] = {
    "table1": [
        {"method": "zeros-p0.9", "params": 200_000, "all": 92.0},
        {"method": "zeros-p0.7", "params": 80_000, "all": 88.0},
        {"method": "zeros-0.08m-1b", "params": 80_000, "all": 86.0},
        {"method": "broken", "params": None, "all": None},
    ],
    "table3": [
        {"method": "default-1ep", "size": "s", "way": "default", "iterations": 10, "all": 80.0},
        {"method": "default-2ep", "size": "s", "way": "default", "iterations": 20, "all": 90.0},
        {"method": "default", "size": "s", "way": "default", "iterations": None, "all": 90.0},
    ],
    "table4": [{"method": "default", "old": 92.0, "new": 91.0}, {"method": "default cat", "old": 1.0, "new": 2.0}],
    "table5": [{"method": "rilod", "old": 40.0, "new": 91.0}, {"method": "broken", "old": None, "new": None}],
    "sequence": [{"method": "default", "after 6": 95.0, "after 7": 93.0}, {"method": "joint", "after 7": 94.0}],
}
SHOWN = {"table1": "zeros", "table3": "default, s", "table4": "default", "table5": "rilod", "sequence": "joint"}


@pytest.mark.parametrize("table", sorted(PLOTS))
def test_a_plot_is_svg_that_names_its_lines_and_comes_out_the_same_again(table: str) -> None:
    drawn = PLOTS[table](ROWS[table])
    texts = {element.text for element in ElementTree.fromstring(drawn).iter() if element.tag.endswith("text")}
    assert SHOWN[table] in texts
    assert not texts & {"broken", "default cat"}
    assert table != "table1" or "zeros, one block a group" in texts
    assert drawn == PLOTS[table](ROWS[table])


def test_a_table_of_nothing_but_failures_is_an_empty_plot() -> None:
    assert PLOTS["table4"]([{"method": "default", "error": "no"}]).startswith(b"<?xml")


def test_no_two_methods_of_a_trade_off_look_alike() -> None:
    rows = [{"method": f"method-{at}", "old": 50.0 + at, "new": 50.0} for at in range(20)]
    text = PLOTS["table4"](rows).decode()
    # Every look is drawn once, under a name of its own, and used from there; so are the axes' ticks.
    looks = re.findall(r'<path id="(m[0-9a-f]+)"[^>]*style="([^"]*)"', text)
    assert len({name for name, style in looks if "stroke-width: 0.8" not in style}) == len(rows)
