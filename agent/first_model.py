"""The model a start serves with: the active generation, or the last good one where that cannot be served with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.inference import Classifier, InferenceError
from agent.adapters.judge import examine
from agent.adapters.model_store import ModelStore, ModelStoreError
from agent.adapters.start_record import StartRecord
from agent.config import Config
from transfer.bundle import BundleError

Load = Callable[[int], Classifier]

STARTS = 3
"""At this start in a row that does not settle, another model is tried."""


class FirstModelError(RuntimeError):
    """There is no model to serve with; the text says what to do."""


@dataclass(frozen=True)
class FirstModel:
    """`given_up`: why another model than the active one was taken, "" where it was not."""

    classifier: Classifier
    given_up: str = ""


def first_model(config: Config, models: ModelStore, record: StartRecord) -> FirstModel:
    """The active generation, or the configured bundle as the first one.

    Raises FirstModelError, BundleError, InferenceError, OSError where there is nothing to serve with.
    """

    def load(number: int) -> Classifier:
        return Classifier(
            models.load(number),
            number,
            threads=config.model.threads,
            false_alarm_rate=config.novelty.false_alarm_rate,
            buffer_share=config.novelty.buffer_share,
        )

    found = models.active()
    if found is not None:
        return _go_on(models, record, load, found[0])
    # The first start of all was cut off between taking in and promoting: only now it is seen whether it can be served.
    for number in reversed(models.numbers()):
        with contextlib.suppress(BundleError, InferenceError):
            return _begin_with(models, number, load)
    if not config.model.bundle:
        raise FirstModelError("there is no model yet: name one with model.bundle")
    return _import(models, Path(config.model.bundle).expanduser(), config.model.trusted_keys, load)


def _go_on(models: ModelStore, record: StartRecord, load: Load, active: int) -> FirstModel:
    """A generation with which the daemon did not stay up gives way to the previous one, and so does one that cannot be
    loaded. Where the previous one did not help either, it was not the model: the newer one comes back, for what was
    learned is not to be lost to another's fault."""
    number, given_up = _by_record(models, record, active)
    while True:
        try:
            return FirstModel(load(number), given_up)
        except (BundleError, InferenceError) as error:
            previous = models.previous()
            if previous is None:
                raise FirstModelError(f"generation {number} cannot be served, and there is no other: {error}") from None
            given_up = f"generation {number} cannot be loaded: {error}"
            number = models.roll_back(previous[0])


def _by_record(models: ModelStore, record: StartRecord, active: int) -> tuple[int, str]:
    """The generation to load, and why it is not the active one; written down before it is loaded."""
    last = record.last()
    if last is None or last.generation != active:
        record.begin(active, 1)
        return active, ""
    count = f"{last.starts} starts in a row did not settle with generation {active}"
    other = _other(models, last.instead_of) if last.starts >= STARTS - 1 else None
    if other is None or other == active:
        record.begin(active, last.starts + 1, last.instead_of)
        return active, ""
    try:
        if last.instead_of is None:
            models.roll_back(other)
            record.begin(other, 1, instead_of=active)
            return other, f"{count}: gone back to generation {other}"
        models.promote(other)
        record.begin(other, 1, instead_of=other)
        return other, f"{count} either: it was not the model, and generation {other} is taken again"
    except (BundleError, ModelStoreError, OSError):
        record.begin(active, last.starts + 1, last.instead_of)
        return active, ""


def _other(models: ModelStore, instead_of: int | None) -> int | None:
    if instead_of is not None:
        return instead_of
    previous = models.previous()
    return previous[0] if previous else None


def _import(models: ModelStore, bundle: Path, trusted: Collection[str], load: Load) -> FirstModel:
    """Take in a bundle and make it the active generation, if it can be served; else nothing is left of it."""
    return _begin_with(models, models.import_bundle(bundle, trusted), load)


def _begin_with(models: ModelStore, number: int, load: Load) -> FirstModel:
    try:
        examine(models.load(number))
        classifier = load(number)
    except (BundleError, InferenceError):
        models.discard(number)
        raise
    models.promote(number)
    return FirstModel(classifier)
