"""docs/resource-limits.md from benchmarks/results/device/*.json: what a device spends, how it was measured and where.

The page follows from the JSON files and the benchmarks' docstrings alone, so that it can be checked to be theirs.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.device.command import BENCHMARKS
from benchmarks.device.findings import said, text
from benchmarks.markdown import as_markdown, table

HERE = Path(__file__).parent

Document = Mapping[str, Any]

INTRODUCTION = """# What a device spends

Made from `benchmarks/results/device/*.json` by `python -m benchmarks render`; not written by hand. Every figure can be
measured again: `python -m benchmarks footprint` and so on; `--quick` takes less than a minute, `--json` is for
programs.

**Nothing here was measured on ARM hardware.** The machine is named under every table. The same commands run unchanged
on a Raspberry Pi, and what lasts from one machine to another are the ratios: all that is compared ran in the same
minutes, in turns.
"""


class PageError(ValueError):
    """A file of results that cannot be shown; the message says which and why."""


def read(folder: Path) -> dict[str, Document]:
    """The documents by the benchmark's name. Raises PageError."""
    found: dict[str, Document] = {}
    for name in BENCHMARKS:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PageError(f"{path.name} cannot be read as JSON: {error}; measure it again") from error
        if not isinstance(document, dict) or not {"benchmark", "machine", "rows"} <= set(document):
            raise PageError(f"{path.name} is no benchmark's: expected an object with benchmark, machine and rows")
        found[name] = document
    return found


def page(documents: Mapping[str, Document]) -> str:
    """The whole of docs/resource-limits.md."""
    return "\n".join([INTRODUCTION, *(_section(name, documents.get(name)) for name in BENCHMARKS)])


def _section(name: str, document: Document | None) -> str:
    parts = [f"## {name.capitalize()}: {BENCHMARKS[name]}", "", _about(name), ""]
    if document is None:
        return "\n".join([*parts, f"Not measured yet: `python -m benchmarks {name}`.", ""])
    goals = {n: f"<= {goal:g}" for n, goal in document.get("targets", {}).items()}
    goals |= {n: f">= {goal:g}" for n, goal in document.get("at_least", {}).items()}
    figures = [key for key in document if key not in _OTHER]
    columns = list(dict.fromkeys(column for row in document["rows"] for column in row))
    parts += [
        table(["figure", "measured", "target"], [[f"`{n}`", text(document[n]), goals.get(n, "")] for n in figures]),
        "",
        table(
            [c.replace("_", " ") for c in columns], [[text(row.get(c)) for c in columns] for row in document["rows"]]
        ),
        "",
        *(f"{note}\n" for note in document.get("notes", ())),
        f"Measured {document.get('date', '')} on {said(document['machine'])}.",
        "",
    ]
    return "\n".join(parts)


_OTHER = ("benchmark", "machine", "rows", "targets", "at_least", "notes", "date")


def _about(name: str) -> str:
    """How it is measured: its module's docstring without the first line; read, not imported, for some take torch."""
    path = HERE / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
    return as_markdown((docstring or "").partition("\n")[2].strip())
