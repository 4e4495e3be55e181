"""docs/log-events.md and the sources agree: each kind of line, its level and its fields, and none that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.announcer import TROUBLE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "log-events.md"
PROGRAMS = {"agent": "The device's daemon", "cloud_teacher": "The teacher's worker"}
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
LOGS = re.compile(r"(^|\.|_)(log|journal)$")


@dataclass(frozen=True)
class Line:
    """One place that writes a line. `fields` None: they cannot be read from the source."""

    name: str | None
    level: str
    fields: frozenset[str] | None
    where: str


def lines_of(program: str) -> Iterator[Line]:
    for path in sorted((ROOT / program).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                yield from of_call(node, where)
            elif isinstance(node, ast.Return):
                # `return event, [...]` as well.
                parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for part in parts:
                    if isinstance(part, ast.List):
                        yield from of_reports(part, where)


def of_call(node: ast.Call, where: str) -> Iterator[Line]:
    """`log.info("name", field=...)`, `ReportEvent("name", {...})`, `announcer.event("name", {...})`."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if isinstance(node.func, ast.Attribute) and called in LEVELS and LOGS.search(ast.unparse(node.func.value)):
        named = {keyword.arg for keyword in node.keywords}
        fields = None if None in named else frozenset(name for name in named if name)
        level = "error" if called == "exception" else called
        yield Line(constant(node.args[0]), level, fields, where)
    elif called == "ReportEvent" or (called == "event" and isinstance(node.func, ast.Attribute)):
        name = constant(node.args[0]) if node.args else None
        if name is not None:
            yield Line(name, level_of(name), fields_of(node.args[1:]), where)


def of_reports(node: ast.List, where: str) -> Iterator[Line]:
    """`[("name", {...})]`, returned: what the workshop reports."""
    for item in node.elts:
        if isinstance(item, ast.Tuple) and len(item.elts) == 2 and (name := constant(item.elts[0])) is not None:
            yield Line(name, level_of(name), fields_of(item.elts[1:]), where)


def level_of(event: str) -> str:
    return "warning" if event in TROUBLE else "info"


def constant(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def fields_of(arguments: list[ast.expr]) -> frozenset[str] | None:
    if not arguments:
        return frozenset()
    if not isinstance(arguments[0], ast.Dict):
        return None
    keys = [constant(key) if key else None for key in arguments[0].keys]
    return None if None in keys else frozenset(key for key in keys if key)


def listed(program: str) -> dict[str, tuple[str, frozenset[str]]]:
    """The page's rows: name -> level, fields."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition(f"## {PROGRAMS[program]}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| .+ \|$", section, re.MULTILINE)
    assert rows, f"no table under {PROGRAMS[program]!r}"
    assert len({name for name, _, _ in rows}) == len(rows), "a name is listed twice"
    return {name: (level, frozenset(re.findall(r"`(\w+)`", fields))) for name, level, fields in rows}


@pytest.mark.spec("18.1")
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_line_is_listed_with_its_level_and_fields(program: str) -> None:
    page = listed(program)
    for line in lines_of(program):
        assert line.name is not None, f"{line.where}: a line needs a constant name"
        assert line.name in page, f"{line.where}: {line.name} is not in {PAGE.name}"
        level, fields = page[line.name]
        assert level == line.level, f"{line.where}: {line.name} is a {line.level}"
        if line.fields is not None:
            assert fields == line.fields, f"{line.where}: {line.name} has the fields {sorted(line.fields)}"


@pytest.mark.spec("18.1")
@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_is_listed_that_is_not_written(program: str) -> None:
    written = {line.name for line in lines_of(program)}
    assert set(listed(program)) - written == set()


@pytest.mark.parametrize("program", PROGRAMS)
def test_names_are_snake_case(program: str) -> None:
    for name in listed(program):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name


def test_what_is_called_trouble_exists() -> None:
    assert set(TROUBLE) <= set(listed("agent"))
