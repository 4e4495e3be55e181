"""The specification and the tests that cite it agree."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SPEC = TESTS.parent / "docs" / "spec.md"


def required() -> list[str]:
    return re.findall(r"^- \*\*(\d+\.\d+)\*\* ", SPEC.read_text(encoding="utf-8"), re.MULTILINE)


def cited() -> set[str]:
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    marks = (mark for text in sources for mark in re.findall(r"mark\.spec\(([^)]*)\)", text))
    return {number for mark in marks for number in re.findall(r'"(\d+\.\d+)"', mark)}


def test_numbers_are_unique_and_in_order() -> None:
    numbers = [tuple(map(int, number.split("."))) for number in required()]
    assert numbers == sorted(set(numbers))


def test_every_requirement_has_a_test() -> None:
    assert set(required()) - cited() == set()


def test_no_test_cites_what_is_not_required() -> None:
    assert cited() - set(required()) == set()
