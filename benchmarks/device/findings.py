"""What a benchmark of the device found: for a person, for a program, and for docs/resource-limits.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.machine import processor
from transfer.durable import write_atomic

Row = Mapping[str, Any]
Figure = float | int | str | dict[str, float] | None
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True)
class Findings:
    """figures: by their keys, None where nothing could be measured. targets: of some figures, the most they are meant
    to be (`at_least`: the least). rows: what was measured, one peer or stage a row, under the names of its columns.
    notes: what a reader must know to read them."""

    benchmark: str
    figures: Mapping[str, Figure]
    rows: Sequence[Row]
    targets: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """What --json prints as its last line."""
        figures = {name: _rounded(value) for name, value in self.figures.items()}
        rows = [{name: _rounded(value) for name, value in row.items()} for row in self.rows]
        return {"benchmark": self.benchmark, **figures, "machine": machine(), "rows": rows}

    def shown(self, *, colour: bool) -> str:
        """The rows, the figures beside their targets, the notes, and the machine's name."""
        goals = {
            **{n: f"<= {t:g}" for n, t in self.targets.items()},
            **{n: f">= {t:g}" for n, t in self.at_least.items()},
        }
        figures = [(name, text(value), goals.get(name, "")) for name, value in self.figures.items()]
        parts = [
            grid(self.rows, colour=colour),
            "",
            aligned([("figure", "measured", "target"), *figures], colour=colour),
        ]
        return "\n".join([*parts, "", *self.notes, f"on {said(machine())}"])

    def save(self, folder: Path) -> Path:
        """Write `<benchmark>.json`, with targets, notes and date; no path of this machine."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        today = datetime.now(timezone.utc).date().isoformat()
        goals = {
            "targets": dict(self.targets),
            "at_least": dict(self.at_least),
            "notes": list(self.notes),
            "date": today,
        }
        write_atomic(path, (json.dumps(self.document() | goals, indent=1, ensure_ascii=False) + "\n").encode())
        return path


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def said(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['processor']} ({machine['architecture']}, {machine['cores']} cores), {machine['system']}, "
        f"Python {machine['python']}"
    )


def grid(rows: Sequence[Row], *, colour: bool) -> str:
    """The rows under the names of all their columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return aligned([names, *([text(row.get(name)) for name in names] for row in rows)], colour=colour)


def aligned(lines: Sequence[Sequence[str]], *, colour: bool) -> str:
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    shown = [
        "  ".join(
            cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    head = shown[0].rstrip()
    return "\n".join([f"{BOLD}{head}{PLAIN}" if colour else head, *(line.rstrip() for line in shown[1:])])


def text(value: Any) -> str:
    """Three digits that mean something."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
