"""Markdown of what Python says: docstrings and tables."""

from __future__ import annotations

from collections.abc import Sequence


def as_markdown(text: str) -> str:
    """Lines of the form "name  what it is" become a list."""
    lines: list[str] = []
    for line in text.splitlines():
        name, gap, rest = line.partition("  ")
        if gap and name and " " not in name and rest.strip():
            lines.append(f"- `{name}`: {rest.strip()}")
        elif line.startswith("  ") and lines and lines[-1].startswith(("- ", "  ")):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines)


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = f"| {' | '.join(heads)} |"
    rule = "|" + "|".join("---" for _ in heads) + "|"
    return "\n".join([head, rule, *(f"| {' | '.join(line)} |" for line in lines)])
