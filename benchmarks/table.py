"""From cells to rows: mean and spread over the seeds; for a person, for a program, and for docs/results.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks import cells
from benchmarks.cells import Cell, Done
from benchmarks.machine import processor
from benchmarks.measured import Measured
from benchmarks.setting import Setting
from transfer.durable import write_atomic

Row = dict[str, Any]

COLUMNS = ("method", "params", "macs", "old", "new", "all", "harmonic", "spread", "seconds", "seeds")
"""Of every row of every table; more may follow. None where a column makes no sense."""
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True)
class Table:
    """What a table shows. columns: those beyond COLUMNS, in their order. summary: rows that follow from the measured
    ones (a mean over categories, say)."""

    title: str
    columns: tuple[str, ...] = ()
    summary: Callable[[list[Row]], list[Row]] | None = None


def rows(table: Table, done: Sequence[Done]) -> list[Row]:
    """One row a method, in the order of the cells; a method of which nothing was run has none."""
    methods = list(dict.fromkeys(one.cell.method for one in done))
    found = [_row([one for one in done if one.cell.method == method]) for method in methods]
    measured = [row for row in found if row is not None]
    return measured + (table.summary(measured) if table.summary else [])


def _row(done: Sequence[Done]) -> Row | None:
    measured = [one.measured for one in done if one.measured is not None]
    errors = [one.error for one in done if one.error]
    if not measured and not errors:
        return None
    cell: Cell = done[0].cell
    row: Row = {"method": cell.method}
    for column in ("params", "macs", "old", "new", "all", "harmonic"):
        row[column] = mean([getattr(one, column) for one in measured])
    row["spread"] = spread([one.all for one in measured])
    row["seconds"] = mean([one.seconds for one in measured])
    row["seeds"] = len(measured)
    row |= cell.columns
    for column in dict.fromkeys(name for one in measured for name in one.extra):
        row[column] = mean([one.extra.get(column) for one in measured])
    if errors:
        row["error"] = errors[0]
    return row


def mean(values: Sequence[Any]) -> Any:
    """Of the numbers among `values`; the first of what are no numbers; None of nothing. Counts stay whole numbers."""
    known = [value for value in values if value is not None]
    if not known or any(isinstance(value, str) for value in known):
        return known[0] if known else None
    average = statistics.fmean(known)
    return int(average) if all(isinstance(value, int) for value in known) and average.is_integer() else average


def spread(values: Sequence[float | None]) -> float | None:
    """Standard deviation over the seeds (n - 1); None of fewer than two."""
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None


def document(setting: Setting, found: Sequence[Row]) -> dict[str, Any]:
    """What --json prints as its last line."""
    return {"table": setting.table, "scale": setting.scale, "rows": [_rounded(row) for row in found]}


def published_at(setting: Setting) -> Path:
    return setting.results / f"{setting.table}-{setting.scale}.json"


def save(setting: Setting, found: Sequence[Row], done: Sequence[Done]) -> Path:
    """Write the file of results: the rows, the conditions under which they were measured, the cells that they were made
    of, and no path of this machine. Methods that were measured with an earlier version and not with this one keep their
    rows, with the date in the column `outdated`."""
    path = published_at(setting)
    path.parent.mkdir(parents=True, exist_ok=True)
    methods = list(dict.fromkeys(one.cell.method for one in done))
    kept = [*found, *_outdated(path, set(methods) - {row["method"] for row in found})]
    place = {method: at for at, method in enumerate(methods)}
    kept.sort(key=lambda row: place.get(row["method"], len(place)))
    # Where nothing of this version is measured yet, the rows are all of the conditions that they had.
    where = conditions(setting) if found else _published(path).get("conditions")
    whole = document(setting, kept) | {"conditions": where, "cells": cells.published(setting, done)}
    write_atomic(path, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def _outdated(path: Path, methods: Collection[str]) -> list[Row]:
    """The rows of these methods in a file of results, with the day they are of."""
    document = _published(path)
    date = (document.get("conditions") or {}).get("date") or "unknown"
    rows = [row for row in document.get("rows", ()) if row.get("method") in methods]
    return [row | {"outdated": row.get("outdated", date)} for row in rows]


def _published(path: Path) -> dict[str, Any]:
    """What a file of results holds; nothing where there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return document


def conditions(setting: Setting) -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "quick": setting.quick,
        "data": setting.dataset.name,
        "teacher": setting.teacher.digest,
        "cores": os.cpu_count(),
        "threads": setting.threads,
        "processor": processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "plan": repr(setting.plan),
    }


def shown(table: Table, found: Sequence[Row], *, colour: bool) -> str:
    """The rows under their column names, aligned; the best `all` in bold where there is colour."""
    known = [*COLUMNS, *table.columns]
    extra = dict.fromkeys(name for row in found for name in row if name not in known)
    names = [name for name in [*known, *extra] if any(row.get(name) is not None for row in found)]
    grid = [names, *([_text(name, row.get(name)) for name in names] for row in found)]
    widths = [max(len(line[at]) for line in grid) for at in range(len(names))]
    best = max((row["all"] for row in found if row.get("all") is not None), default=None)
    lines = []
    for number, line in enumerate(grid):
        cells = [
            text.ljust(w) if at == 0 else text.rjust(w) for at, (text, w) in enumerate(zip(line, widths, strict=True))
        ]
        text = "  ".join(cells).rstrip()
        marked = colour and (number == 0 or found[number - 1].get("all") == best is not None)
        lines.append(f"{BOLD}{text}{PLAIN}" if marked else text)
    return "\n".join([table.title, "", *lines])


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in ("params", "macs"):
        return next(
            (f"{value / unit:.3g} {letter}" for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= unit),
            str(value),
        )
    if isinstance(value, float) and abs(value) >= 1_000:
        return f"{value:,.0f}"
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 0.05 else f"{value:.1e}"
    return str(value)


def _rounded(row: Row) -> Row:
    """Four decimals are far more than any spread."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


__all__ = ["COLUMNS", "Measured", "Row", "Table", "conditions", "document", "rows", "save", "shown"]
