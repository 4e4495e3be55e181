"""Makes a job of what is buffered: which samples it is made of, and which of them judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from agent.adapters.inference import Classifier, Verdict
from agent.adapters.job_folder import JobFolders
from agent.adapters.sample_store import Sample, SampleStore
from agent.config import Training
from agent.core import commands as do
from agent.core import events as ev
from agent.job import Job

Detail = dict[str, str | int | float | bool | None]
Report = tuple[str, Detail]

SAMPLES_PER_WISH = 2
"""At most this many times the wanted samples, without a label or of one label, go into a job: some of the buffer are
false alarms."""
SCREENED_AT_ONCE = 64


class Preparation:
    def __init__(self, training: Training, store: SampleStore, jobs: JobFolders, now: Callable[[], float]) -> None:
        self._training, self._store, self._jobs, self._now = training, store, jobs, now

    def prepare(
        self, command: do.PrepareJob, model: Path, load: Callable[[], Classifier]
    ) -> tuple[ev.Event, list[Report]]:
        """The event that ends it, and what is worth telling the operator. `model`: the active generation's folder;
        `load` loads it."""
        if self._jobs.exists(command.job_id):
            count = len(self._jobs.job(command.job_id).sample_ids)
            return ev.JobPrepared(self._now(), command.job_id, count), []
        classifier, training = load(), self._training
        known = classifier.manifest.labels
        samples = self._chosen(command, classifier)
        new = sum(sample.category not in known for sample in samples)
        if new < training.min_samples:
            what = "are in the buffer" if command.unseen else "are still novel to the active model"
            why = f"{new} samples {what}; {training.min_samples} are needed"
            return ev.JobUnpreparable(self._now(), command.job_id, why), []
        strange = self._unteachable(command, samples, classifier)
        if strange:
            why = f"no sample is of {strange}, no teacher may be asked, and the model was taught nothing about it"
            return ev.JobUnpreparable(self._now(), command.job_id, why), []
        ids = tuple(sample.sample_id for sample in samples)
        job = Job(
            job_id=command.job_id,
            categories=command.categories,
            tier=command.tier,
            sample_ids=ids,
            holdout=_holdout(ids, training.holdout_share),
            given=tuple(sample.category for sample in samples),
            unseen=command.unseen,
            use_unlabelled=training.use_unlabelled,
            views=training.views,
            epochs=training.epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            quantise=training.quantise,
        )
        try:
            self._store.reserve(ids, command.job_id)
            self._jobs.make(job, samples, model)
        except OSError as error:
            why = f"the job folder cannot be written: {error}"
            return ev.JobUnpreparable(self._now(), command.job_id, why), []
        made_of = self._made_of(samples, (*command.categories, *known))
        return ev.JobPrepared(self._now(), command.job_id, len(ids)), [("job_prepared", made_of)]

    def _unteachable(self, command: do.PrepareJob, samples: list[Sample], classifier: Classifier) -> str:
        """The unseen categories that nothing here can teach: only a teacher could. "" where there is none."""
        if not command.unseen or command.tier == "transfer":
            return ""
        here = {*classifier.manifest.dormant, *(sample.category for sample in samples)}
        return ", ".join(category for category in command.categories if category not in here)

    def _chosen(self, command: do.PrepareJob, classifier: Classifier) -> list[Sample]:
        """Those that came with a label of use, then the most novel of those that came with none, with the features of
        the active model: the buffer may be older than it.

        What it no longer finds novel enough is left out, unless it is labelled, or the round is for categories of which
        there need be no image: then all that there is may show the teacher's view.
        """
        limit = command.samples_wanted * SAMPLES_PER_WISH
        here = self._store.categories()
        useful = [label for label in (*command.categories, *classifier.manifest.labels) if label in here]
        labelled = [sample for label in useful for sample in self._store.select(limit, category=label)]
        silent = self._store.select(limit, by="score", category="")
        judged = verdicts(classifier, [*labelled, *silent])
        return [
            _with_feature(sample, verdict)
            for sample, verdict in judged
            if verdict.kept or sample.category or command.unseen
        ]

    def _made_of(self, samples: list[Sample], labels: tuple[str, ...]) -> Detail:
        """`foreign`: samples in the buffer that came with none of the labels that this round is about."""
        return {
            "samples": len(samples),
            "labelled": sum(sample.category != "" for sample in samples),
            "foreign": self._store.count_besides(("", *labels)),
        }


def verdicts(classifier: Classifier, samples: list[Sample]) -> Iterator[tuple[Sample, Verdict]]:
    """What the model says about each, a few at a time."""
    for start in range(0, len(samples), SCREENED_AT_ONCE):
        some = samples[start : start + SCREENED_AT_ONCE]
        yield from zip(some, classifier.classify(np.stack([sample.image for sample in some])), strict=True)


def _with_feature(sample: Sample, verdict: Verdict) -> Sample:
    return dataclasses.replace(sample, feature=verdict.feature, score=verdict.novelty, label=verdict.label)


def _holdout(ids: tuple[str, ...], share: float) -> tuple[bool, ...]:
    """Which samples judge: the same ones however often it is asked, at least two, by their content's hash."""
    count = max(2, round(len(ids) * share))
    chosen = set(sorted(ids, key=lambda identity: identity[::-1])[:count])
    return tuple(identity in chosen for identity in ids)
