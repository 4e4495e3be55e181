"""The unit of a benchmark: one method with one seed. What was measured is never measured again.

A cell is named by everything its result depends on; the result is written to the cache as soon as it is there. So a
benchmark that was stopped, by a signal or a power cut, is simply started again. Tables are published with their cells
(`table.save`), so another machine, whose cache is empty, goes on with them too. Long trainings inside a cell go on from
their own checkpoints (`cloud_teacher.train.optimise`). What failed is kept too: it is tried again where it is asked
for, and shown as failed where it is not.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from benchmarks.measured import Extra, Measured
from benchmarks.setting import Setting, SettingError
from cloud_teacher.progress import Report
from cloud_teacher.train import identity_of
from transfer.durable import write_atomic

NAME_DIGITS = 32
"""Of a cell's identity, in the name of its file."""


class Stopped(BaseException):
    """The benchmark is to end now and can be started again later. No Exception: nothing may take it for a failure."""


@dataclass(frozen=True, eq=False)
class Cell:
    """`run` measures `method` with `seed`; it is called at most once and may raise. `matters`: all that its result
    depends on besides the setting's data and teacher, in a stable repr: hyper-parameters, the student's key, a VERSION
    to raise when the method changes. columns: extra columns that are the same for every seed. wanted: False where
    the setting does not ask for it: an earlier result is then shown but none is made."""

    method: str
    seed: int
    run: Callable[[Report], Measured]
    matters: tuple[object, ...] = ()
    columns: Mapping[str, Extra] = field(default_factory=dict)
    wanted: bool = True


@dataclass(frozen=True)
class Done:
    """A cell and what came of it: a measurement, an error (one line), or neither where it was not run."""

    cell: Cell
    measured: Measured | None = None
    error: str = ""


def measure(setting: Setting, cells: Sequence[Cell], note: Callable[[str], None]) -> tuple[list[Done], bool]:
    """Every cell's outcome, in order, and whether the benchmark was stopped before all were measured.

    `note` is told a line about each cell. A cell that fails does not keep the others from being measured. To be stopped
    by signals, call it inside `stopping`.
    """
    done = [Done(cell) if setting.fresh and _asked(setting, cell) else _stored(setting, cell) for cell in cells]
    open_cells = [at for at, one in enumerate(done) if one.measured is None and _asked(setting, one.cell)]
    note(f"{setting.table}: {sum(one.measured is not None for one in done)} of {len(done)} cells are there already")
    began_s = time.monotonic()
    try:
        for number, at in enumerate(open_cells, 1):
            if setting.minutes is not None and time.monotonic() - began_s > 60 * setting.minutes:
                raise Stopped
            cell = done[at].cell
            note(f"[{number}/{len(open_cells)}] {cell.method}, seed {cell.seed}")
            done[at] = _run(setting, cell, note)
    except Stopped:
        return done, True
    return done, False


def failed(setting: Setting, done: Sequence[Done]) -> bool:
    """Whether a cell that was asked for has failed."""
    return any(one.error for one in done if _asked(setting, one.cell))


def identity(setting: Setting, cell: Cell) -> str:
    """Names the cell's result among all others."""
    data, teacher = setting.dataset.fingerprint, setting.teacher.digest
    tests = (setting.dataset.test_images.shape, setting.dataset.test_targets.tobytes())
    where = (setting.table, setting.scale, setting.quick, data, identity_of(tests), teacher)
    return identity_of("cell", where, cell.method, cell.seed, cell.matters)


@contextmanager
def stopping() -> Iterator[None]:
    """Inside, SIGTERM and SIGINT raise Stopped in the main thread, wherever it is."""

    def stop(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _asked(setting: Setting, cell: Cell) -> bool:
    return cell.wanted and setting.wants(cell.method)


def published(setting: Setting, done: Sequence[Done]) -> list[dict[str, object]]:
    """What is measured, as it is kept in a file of results beside the rows made of it."""
    return [
        {"name": _name(setting, one.cell), "method": one.cell.method, "seed": one.cell.seed}
        | {"measured": msgspec.to_builtins(one.measured)}
        for one in done
        if one.measured is not None
    ]


class _Published(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{NAME_DIGITS}}}$")]
    method: str
    seed: int
    measured: Measured


class _Document(msgspec.Struct):
    cells: list[_Published] = []


def take_over(setting: Setting, path: Path) -> None:
    """Whatever was measured elsewhere and published in `path`, as if it had been measured here. What is in the cache
    stays: it is newer. Raises SettingError where the file is damaged: it would be overwritten by less."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path.name} cannot be read: {error}; mend it, or remove it to begin it anew") from error
    for cell in document.cells:
        kept = _kept_at(setting, cell.name)
        if not kept.exists():
            _keep(kept, setting.table, cell.method, cell.seed, cell.measured)


def _run(setting: Setting, cell: Cell, note: Callable[[str], None]) -> Done:
    try:
        measured = cell.run(setting.report)
    except Exception as error:
        note(traceback.format_exc())
        done = Done(cell, error=f"{type(error).__name__}: {error}".splitlines()[0][:300])
    else:
        done = Done(cell, measured)
    if done.error and _stored(setting, cell).measured is not None:
        return done  # Measured afresh in vain: the earlier result stays.
    _keep(_path(setting, cell), setting.table, cell.method, cell.seed, done.measured, done.error)
    return done


def _keep(path: Path, table: str, method: str, seed: int, measured: Measured | None, error: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"table": table, "method": method, "seed": seed, "measured": measured, "error": error}
    write_atomic(path, msgspec.json.format(msgspec.json.encode(kept)))


def _stored(setting: Setting, cell: Cell) -> Done:
    """A file that cannot be read counts as no result: it is measured again."""

    class Kept(msgspec.Struct):
        measured: Measured | None = None
        error: str = ""

    try:
        kept = msgspec.json.decode(_path(setting, cell).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Done(cell)
    return Done(cell, kept.measured, kept.error)


def _path(setting: Setting, cell: Cell) -> Path:
    return _kept_at(setting, _name(setting, cell))


def _name(setting: Setting, cell: Cell) -> str:
    return identity(setting, cell)[:NAME_DIGITS]


def _kept_at(setting: Setting, name: str) -> Path:
    return setting.cache / "cells" / f"{name}.json"
