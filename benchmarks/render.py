"""docs/results.md from benchmarks/results/*.json: every table beside the paper's own figures; and with it
docs/resource-limits.md (`benchmarks.device.page`).

`python -m benchmarks render`. The page follows from the JSON files alone, so that it can be checked to be theirs; what
was not measured is said to be missing. Plots (docs/results/*.svg) need matplotlib: the extra `bench`.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.device import page as device
from benchmarks.markdown import as_markdown
from benchmarks.markdown import table as table_of
from benchmarks.paper import PAPER, PaperTable, Value
from benchmarks.plots import PLOTS

Row = Mapping[str, Any]
Document = Mapping[str, Any]

HERE = Path(__file__).parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
PLOT_FOLDER = "results"
SCALES = {"cpu": "on a small machine", "paper": "with the paper's networks, on a GPU"}
EXPECTED = {
    name: tuple(SCALES) for name in ("table1", "table2", "table3", "table4", "table6", "table7", "sequence")
} | {
    "table5": ("cpu",),
    "novelty": ("cpu",),
    "ablation": ("cpu",),
}
ORDER = ("table1", "table2", "table3", "table4", "table5", "table6", "table7", "sequence", "novelty", "ablation")

HEADINGS = {
    "table1": "Table 1: compression",
    "table2": "Table 2: compression beside published work",
    "table3": "Table 3: iterations to the same accuracy",
    "table4": "Table 4: one new category",
    "table5": "Table 5: one new category, photographs at 224",
    "table6": "Table 6: seconds of a round and of inference",
    "table7": "Table 7: unseen categories",
    "sequence": "Sequence: one new category after the other",
    "novelty": "Novelty: noticing what is new",
    "ablation": "Ablation: what our own choices are worth",
}
NAMES = {
    "params": "parameters",
    "macs": "MACs",
    "old": "old %",
    "new": "new %",
    "all": "all %",
    "harmonic": "harmonic %",
}
LEFT_OUT = ("spread",)
"""Shown with `all`."""

INTRODUCTION = """# Results

Made from `benchmarks/results/*.json` by `python -m benchmarks render`; not written by hand. Every table can be measured
again: `python -m benchmarks --help`.

How to read the columns: accuracies are in percent, on the official test images, by the mean over `seeds`. `all` is the
accuracy on all categories, each image counting once, ± the standard deviation over the seeds; `old` and `new` are those
on the categories known before and learned since, and `harmonic` their harmonic mean. Hyper-parameters were chosen on a
split of the training images, but for the size of the student that goes on to learn and how many views it is taught by:
these were enlarged once, untried, where earlier figures fell short. `default` is what is shipped; `joint` the upper
bound. Rows with a date in `outdated` are of an earlier version, and stay until they are measured again. Tables grow
over days and machines: the conditions below one are those of its last run, and `seconds` of different rows may be of
different processors, some beside another training. The paper is arXiv 2201.10947; its figures stand below ours, as
printed.
"""


class RenderError(ValueError):
    """A file of results that cannot be shown; the message says which and why."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks render", description="Write docs/results.md.")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="the JSON files (default: ours)")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR", help="for the pages (default: docs)")
    arguments = parser.parse_args(argv)
    documents, spent = read(arguments.results), device.read(arguments.results / "device")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text, count in (
        ("results.md", page(documents), len(documents)),
        ("resource-limits.md", device.page(spent), len(spent)),
    ):
        (arguments.out / name).write_text(text, encoding="utf-8")
        print(f"written: {name}, from {count} files of results")
    try:
        made = _plot(documents, arguments.out / PLOT_FOLDER)
    except ModuleNotFoundError as error:
        print(f"no plots: {error}; install the extra `bench`", file=sys.stderr)
        return 1
    print(f"plots: {', '.join(made) or 'none'}")
    return 0


def read(directory: Path) -> dict[str, Document]:
    """The documents by "<table>-<scale>". Raises RenderError."""
    found: dict[str, Document] = {}
    for path in sorted(directory.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RenderError(f"{path.name} cannot be read as JSON: {error}; measure that table again") from error
        if not isinstance(document, dict) or not {"table", "scale", "rows"} <= set(document):
            raise RenderError(f"{path.name} is no table: expected an object with table, scale and rows")
        found[f"{document['table']}-{document['scale']}"] = document
    return found


def page(documents: Mapping[str, Document]) -> str:
    """The whole of docs/results.md."""
    sections = [INTRODUCTION, _missing(documents)]
    sections += [_section(table, documents) for table in ORDER]
    return "\n".join(sections)


def _missing(documents: Mapping[str, Document]) -> str:
    open_ones = [
        f"{table} at scale {scale}"
        for table in ORDER
        for scale in EXPECTED[table]
        if not _there(documents, table, scale)
    ]
    return f"Not measured yet: {', '.join(open_ones)}.\n" if open_ones else "Every table has been measured.\n"


def _there(documents: Mapping[str, Document], table: str, scale: str) -> bool:
    return f"{table}-{scale}" in documents


def _section(table: str, documents: Mapping[str, Document]) -> str:
    parts = [f"## {HEADINGS[table]}", ""]
    about = _about(table)
    if about:
        parts += [about, ""]
    for scale in EXPECTED[table]:
        document = documents.get(f"{table}-{scale}")
        parts += [f"### Ours, {SCALES[scale]} (scale {scale})", ""]
        if document is None:
            parts += [f"Not measured yet: `python -m benchmarks {table} --scale {scale} --data-dir DIR`.", ""]
            continue
        if table in PLOTS:
            parts += [f"![{HEADINGS[table]}]({PLOT_FOLDER}/{table}-{scale}.svg)", ""]
        parts += [grid(document["rows"]), "", conditions(document), ""]
    if table in PAPER:
        parts += [_of_the_paper(PAPER[table])]
    return "\n".join(parts)


def _about(table: str) -> str:
    """What the table is: its module's docstring, without its first line and as Markdown; read, not imported, for that
    takes torch."""
    path = HERE / f"{table}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
    return as_markdown(text or "")


def grid(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: every column of which any row knows something."""
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in LEFT_OUT]
    columns = [name for name in columns if any(row.get(name) is not None for row in rows)]
    return table_of(
        [NAMES.get(name, name.replace("_", " ")) for name in columns],
        [[_cell(row, n) for n in columns] for row in rows],
    )


def _cell(row: Row, column: str) -> str:
    value = row.get(column)
    if column == "all" and value is not None and row.get("spread") is not None:
        return f"{value:.2f} ± {row['spread']:.2f}"
    return _text(column, value)


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in ("params", "macs", "trainable"):
        return f"{value / 1e6:.3g} M" if value >= 1e4 else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def conditions(document: Document) -> str:
    """Under which the table was measured, in a line."""
    known = document.get("conditions") or {}
    shown = {
        "date": known.get("date"),
        "data": known.get("data"),
        "teacher": str(known["teacher"])[:12] if known.get("teacher") else None,
        "processor": known.get("processor"),
        "cores": known.get("cores"),
        "threads": known.get("threads"),
        "accelerator": known.get("accelerator"),
        "torch": known.get("torch"),
    }
    said = ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
    return f"Last measured: {said}." if said else "Nothing is known of the conditions under which this was measured."


def _of_the_paper(table: PaperTable) -> str:
    lines = [[_value(value) for value in row] for row in table.rows]
    parts = [f"### The paper: {table.caption}", "", table_of(table.columns, lines), ""]
    return "\n".join([*parts, *([table.note, ""] if table.note else [])])


def _value(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value


def _plot(documents: Mapping[str, Document], folder: Path) -> list[str]:
    made = []
    for name, document in documents.items():
        if document["table"] in PLOTS:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.svg").write_bytes(PLOTS[document["table"]](document["rows"]))
            made.append(f"{name}.svg")
    return made
