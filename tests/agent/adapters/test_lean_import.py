from __future__ import annotations

import sys

import pytest

from agent.adapters.lean_import import standing_in

ABSENT = "understudy_test_absent"


def test_an_absent_module_can_be_imported_by_name_for_a_while() -> None:
    with standing_in(ABSENT):
        __import__(ABSENT)
    with pytest.raises(ModuleNotFoundError):
        __import__(ABSENT)


def test_it_takes_nothing_away_from_who_has_it_already() -> None:
    before = sys.modules["json"] if "json" in sys.modules else __import__("json")
    with standing_in("json"):
        import json

        assert json is before and json.loads("[1]") == [1]
    assert sys.modules["json"] is before


def test_nothing_stays_behind_where_the_import_fails() -> None:
    with pytest.raises(ImportError), standing_in(ABSENT):
        raise ImportError("the library takes more of it than its name")
    assert ABSENT not in sys.modules
