"""Plots of the tables where people would rather look than read, as SVG. The same rows give the same file.

Matplotlib is imported only to draw: the extra `bench`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
SIZE_INCHES = (7.0, 4.2)
MARKERS = "os^Dv<>Pp*"


def compression(rows: Sequence[Row]) -> bytes:
    """Table 1: accuracy over parameters, a line for each way to a size."""

    def draw(axes: Axes) -> None:
        for way in dict.fromkeys(_way(row) for row in rows):
            _line(axes, way, [row for row in rows if _way(row) == way], "params", "all")
        axes.set_xscale("log")
        axes.set_xlabel("parameters")
        axes.set_ylabel("accuracy, %")

    return _drawn(draw)


def _way(row: Row) -> str:
    way, _, size = row["method"].partition("-")
    return f"{way}, one block a group" if size.endswith("-1b") else str(way)


def convergence(rows: Sequence[Row]) -> bytes:
    """Table 3: what a schedule that ends after so many iterations reaches on the test images."""

    def draw(axes: Axes) -> None:
        measured = [row for row in rows if row.get("all") is not None and row.get("speedup", None) is None]
        measured = [row for row in measured if str(row["method"]).endswith("ep")]
        for size, way in dict.fromkeys((row.get("size"), row.get("way")) for row in measured):
            same = [row for row in measured if (row.get("size"), row.get("way")) == (size, way)]
            _line(axes, f"{way}, {size}", same, "iterations", "all")
        axes.set_xscale("log")
        axes.set_xlabel("iterations of the whole schedule")
        axes.set_ylabel("accuracy, %")

    return _drawn(draw)


def trade_off(rows: Sequence[Row]) -> bytes:
    """Tables 4 and 5: what is kept of the old categories against what is learned of the new one."""

    def draw(axes: Axes) -> None:
        known = [row for row in rows if row.get("old") is not None and row.get("new") is not None]
        # A space in the name: another choice of the new category.
        for number, row in enumerate(row for row in known if " " not in row["method"]):
            # Colours repeat after ten as well: from there on the markers are hollow.
            fill: Literal["none", "full"] = "none" if number >= 10 else "full"
            marker = MARKERS[number % 10]
            axes.plot(row["new"], row["old"], marker=marker, fillstyle=fill, linestyle="", label=row["method"])
        axes.set_xlabel("new category, %")
        axes.set_ylabel("old categories, %")

    return _drawn(draw)


def sequence(rows: Sequence[Row]) -> bytes:
    """The sequence: accuracy on all categories known so far, after each of the steps."""

    def draw(axes: Axes) -> None:
        steps = [name for name in dict.fromkeys(n for row in rows for n in row) if name.startswith("after ")]
        for row in rows:
            known = [(int(name.split()[1]), row[name]) for name in steps if row.get(name) is not None]
            if known:
                axes.plot(*zip(*known, strict=True), marker="o", label=row["method"])
        axes.set_xlabel("categories known")
        axes.set_ylabel("accuracy, %")

    return _drawn(draw)


def _line(axes: Axes, label: str, rows: Sequence[Row], x: str, y: str) -> None:
    points = sorted((row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None)
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", label=label)


def _drawn(draw: Callable[[Axes], None]) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    # Without these, every run names its shapes anew and writes the date.
    with matplotlib.rc_context({"svg.hashsalt": "understudy", "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small", bbox_to_anchor=(1.02, 1), loc="upper left")
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


PLOTS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "table1": compression,
    "table3": convergence,
    "table4": trade_off,
    "table5": trade_off,
    "sequence": sequence,
}
