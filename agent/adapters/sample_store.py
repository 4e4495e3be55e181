"""The bounded store of samples and exemplars: what `add` has acknowledged survives a power cut."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.adapters.sqlite_file import DatabaseUnavailable, SqliteFile
from transfer.preprocess import ImageError, Pixels, decode_image, encode_png

Feature = npt.NDArray[np.float32]

# Pictures lie in a table of their own, so that counting and choosing never read them from the card.
_CLASS = "(CASE category WHEN '' THEN label ELSE category END)"
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS sample (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival: the clock may jump
    sample_id TEXT NOT NULL UNIQUE,
    score REAL NOT NULL, label TEXT NOT NULL, at_utc REAL NOT NULL,
    category TEXT NOT NULL DEFAULT '', reserved_for TEXT NOT NULL DEFAULT '',
    size_bytes INTEGER NOT NULL
);
DROP INDEX IF EXISTS sample_evictable;
CREATE INDEX IF NOT EXISTS sample_of_class ON sample (reserved_for, {_CLASS}, number, size_bytes);
CREATE TABLE IF NOT EXISTS content (
    number INTEGER PRIMARY KEY REFERENCES sample (number), png BLOB NOT NULL, feature BLOB NOT NULL
);
"""
_COLUMNS = "sample_id, score, label, at_utc, category, reserved_for, png, feature"
Order = Literal["newest", "oldest", "score"]
_ORDERS: dict[Order, str] = {"newest": "number DESC", "oldest": "number ASC", "score": "score DESC, number DESC"}
_ROW_OVERHEAD_BYTES = 300
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """`image` uint8 [h, w, 3]; `feature` float32 [d]; `score` the novelty score; `label` what was predicted;
    `category` the label that it came with ("" = none); `reserved_for` the job that needs it ("" = none)."""

    sample_id: str
    image: Pixels
    feature: Feature
    score: float
    label: str
    at_utc: float
    category: str
    reserved_for: str


class SampleStore:
    """Samples in an SQLite file of about `max_bytes`.

    When full, the oldest sample of the commonest class makes room, so that none crowds out the others; the class is the
    label that a sample came with, or else the predicted one. Samples reserved for a job stay. With an unusable disk the
    store is empty and refuses; a corrupt file is moved aside (`quarantined`). `refused` counts what neither quota nor
    disk had room for.
    """

    def __init__(self, db_path: Path, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self.refused = 0
        self._file = SqliteFile(db_path, _SCHEMA, synchronous="FULL")
        self.count()  # opens the file, so that `quarantined` is known from the start

    @property
    def quarantined(self) -> Path | None:
        return self._file.quarantined

    @property
    def trouble(self) -> tuple[int, str]:
        """How often the disk refused, and why it last did: "" once something was written since."""
        return self._file.failures, self._file.failure

    def add(
        self,
        sample_id: str,
        image: Pixels,
        feature: Feature,
        score: float,
        label: str,
        at_utc: float,
        category: str = "",
    ) -> bool:
        """True when the sample is durable, or the `category` is that one that is here already is now said to be of.
        False: it is here already, or quota or disk refuse it."""
        if feature.ndim != 1 or feature.dtype != np.float32 or not np.isfinite(feature).all():
            raise ValueError(f"feature of {sample_id} is {feature.dtype} {feature.shape}; expected finite float32 [d]")
        if not math.isfinite(score):
            raise ValueError(f"score of {sample_id} is {score}; expected a finite number")
        png, feature_bytes = encode_png(image), feature.astype("<f4").tobytes()
        size_bytes = len(png) + len(feature_bytes) + _ROW_OVERHEAD_BYTES
        row = (sample_id, float(score), label, float(at_utc), category, size_bytes)

        def insert(db: sqlite3.Connection) -> bool:
            found = db.execute("SELECT category FROM sample WHERE sample_id = ?", (sample_id,)).fetchone()
            if found is not None:
                if category in ("", *found):
                    return False
                db.execute("UPDATE sample SET category = ? WHERE sample_id = ?", (category, sample_id))
                return True
            if not _make_room(db, self.max_bytes - size_bytes):
                self.refused += 1
                return False
            columns = "sample_id, score, label, at_utc, category, size_bytes"
            number = db.execute(f"INSERT INTO sample ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row).lastrowid
            db.execute("INSERT INTO content VALUES (?, ?, ?)", (number, png, feature_bytes))
            return True

        try:
            return self._file.run(insert)
        except DatabaseUnavailable:
            self.refused += 1
            return False

    def count(self, *, category: str | None = None) -> int:
        """How many there are; with `category`, how many came with that label ("" = with none)."""
        where, values = _where(category)
        try:
            return int(
                self._file.run(lambda db: db.execute(f"SELECT count(*) FROM sample {where}", values).fetchone())[0]
            )
        except DatabaseUnavailable:
            return 0

    def count_besides(self, known: Collection[str]) -> int:
        """How many there are that did not come with one of the labels `known`."""
        return sum(count for category, count in self.categories().items() if category not in known)

    def categories(self) -> dict[str, int]:
        """How many samples came with which label, "" for none."""
        statement = "SELECT category, count(*) FROM sample GROUP BY category"
        try:
            return dict(self._file.run(lambda db: db.execute(statement).fetchall()))
        except DatabaseUnavailable:
            return {}

    def select(self, limit: int, *, by: Order = "newest", category: str | None = None) -> list[Sample]:
        """At most `limit` samples: the newest, the oldest or those of the highest score first; `category` as in
        `count`."""
        where, values = _where(category)
        return self._read(f"{where} ORDER BY {_ORDERS[by]} LIMIT ?", (*values, max(0, limit)))

    def get(self, ids: Sequence[str]) -> list[Sample]:
        """The samples of `ids` that are here, in that order."""
        found: dict[str, Sample] = {}
        for some in _chunks(ids):
            for sample in self._read(f"WHERE sample_id IN ({_marks(some)})", some):
                found[sample.sample_id] = sample
        return [found[i] for i in dict.fromkeys(ids) if i in found]

    def remove(self, ids: Iterable[str]) -> int:
        """Returns how many were here. Raises DatabaseUnavailable, as all changes below do."""
        return self._change("", tuple(ids), remove=True)

    def reserve(self, ids: Iterable[str], job_id: str) -> int:
        """Keep these samples until `release(job_id)`, whatever the quota. Returns how many are here."""
        return self._change("reserved_for = ?", tuple(ids), job_id)

    def release(self, job_id: str) -> int:
        """Let the quota have the samples of `job_id` again. Returns how many they were."""
        statement = "UPDATE sample SET reserved_for = '' WHERE reserved_for = ? AND reserved_for <> ''"
        return self._file.run(lambda db: db.execute(statement, (job_id,)).rowcount)

    def close(self) -> None:
        self._file.close()

    def _change(self, assignment: str, ids: Sequence[str], value: str = "", *, remove: bool = False) -> int:
        def change(db: sqlite3.Connection) -> int:
            changed = 0
            for some in _chunks(ids):
                these = f"WHERE sample_id IN ({_marks(some)})"
                if remove:
                    db.execute(f"DELETE FROM content WHERE number IN (SELECT number FROM sample {these})", some)
                    changed += db.execute(f"DELETE FROM sample {these}", some).rowcount
                else:
                    changed += db.execute(f"UPDATE sample SET {assignment} {these}", (value, *some)).rowcount
            return changed

        return self._file.run(change)

    def _read(self, rest: str, values: Sequence[str | int]) -> list[Sample]:
        statement = f"SELECT {_COLUMNS} FROM sample JOIN content USING (number) {rest}"
        try:
            rows = self._file.run(lambda db: db.execute(statement, values).fetchall())
        except DatabaseUnavailable:
            return []
        # SQLite has no checksums but PNG has: a row that the card has spoiled is left out, and evicted in its turn.
        return [sample for row in rows if (sample := _sample(row)) is not None]


def _sample(row: tuple[str, float, str, float, str, str, bytes, bytes]) -> Sample | None:
    sample_id, score, label, at_utc, category, reserved_for, png, feature = row
    try:
        image = decode_image(png)
        return Sample(
            sample_id, image, np.frombuffer(feature, "<f4").copy(), score, label, at_utc, category, reserved_for
        )
    except (ImageError, ValueError):
        return None


def _make_room(db: sqlite3.Connection, target_bytes: int) -> bool:
    """Evict until at most `target_bytes` are held. False, with the transaction to be left as it was, if it cannot."""
    (held,) = db.execute("SELECT coalesce(sum(size_bytes), 0) FROM sample").fetchone()
    (evictable,) = db.execute("SELECT coalesce(sum(size_bytes), 0) FROM sample WHERE reserved_for = ''").fetchone()
    if held - evictable > target_bytes:
        return False
    while held > target_bytes:
        number, size_bytes = db.execute(
            f"""SELECT number, size_bytes FROM sample WHERE reserved_for = '' AND {_CLASS} = (
                    SELECT {_CLASS} AS class FROM sample WHERE reserved_for = ''
                    GROUP BY class ORDER BY count(*) DESC, class LIMIT 1
                ) ORDER BY number LIMIT 1"""
        ).fetchone()
        db.execute("DELETE FROM content WHERE number = ?", (number,))
        db.execute("DELETE FROM sample WHERE number = ?", (number,))
        held -= size_bytes
    return True


def _where(category: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if category is None else ("WHERE category = ?", (category,))


def _chunks(ids: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """SQLite takes a bounded number of values a statement."""
    return (tuple(ids[start : start + _AT_ONCE]) for start in range(0, len(ids), _AT_ONCE))


def _marks(some: Sequence[str]) -> str:
    return ", ".join("?" * len(some))
