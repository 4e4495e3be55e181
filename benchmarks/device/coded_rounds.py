"""The shipped round of tier `transfer`, learned from the teacher's answers coded in one way or another."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.adapters.job_folder import JobFolders
from agent.adapters.sample_store import Sample
from agent.trainer import inputs, selection, tiers
from agent.trainer.teacher import Taught
from benchmarks.judge import served, truth_in
from benchmarks.learner import new_images
from benchmarks.rounds import make_job, samples_of
from benchmarks.setting import Setting
from benchmarks.students import Student, recipe, student
from transfer import bundle
from transfer.activations import Activations, wanted
from transfer.bundle import Bundle
from transfer.questions import Question


@dataclass(frozen=True)
class Coding:
    """How maps are averaged (`side`, whole where None), and what else happens to an answer on its way."""

    side: int | None
    carried: Callable[[Activations], Activations]


@dataclass(frozen=True)
class Judged:
    """Accuracy on the test images of all categories, in percent, of every seed, by the coding's name."""

    all: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def mean(self, coding: str) -> float | None:
        return statistics.mean(self.all[coding]) if coding in self.all else None

    def spread(self, coding: str) -> float | None:
        seeds = self.all.get(coding, ())
        return statistics.stdev(seeds) if len(seeds) > 1 else None

    def loss(self, coding: str, reference: str) -> float | None:
        """Points by which it is below the reference."""
        mine, theirs = self.mean(coding), self.mean(reference)
        return None if mine is None or theirs is None else theirs - mine


def judged(setting: Setting, codings: Mapping[str, Coding], note: Callable[[str], None]) -> Judged:
    """Every seed of the setting with every coding: other images for each seed, the same ones for all codings."""
    new = setting.new_category
    begun = student(setting, recipe(setting, setting.known_without(new)), "T10")
    found: dict[str, list[float]] = {name: [] for name in codings}
    for seed in setting.seed_range:
        samples = samples_of(begun.bundle, new_images(setting, new, seed))
        for name, coding in codings.items():
            with tempfile.TemporaryDirectory(prefix="benchmark-round-") as folder:
                answer = coding.carried(_answer(begun, samples, setting, coding.side))
                learned = round_from(answer, begun.bundle, samples, new, seed, Path(folder))
                right = served(learned, setting.dataset.test_images) == truth_in(
                    setting.dataset, learned.manifest.labels
                )
            found[name].append(100 * float(right.mean()))
            note(f"seed {seed}, {name}: {found[name][-1]:.2f} %")
    return Judged(found)


def round_from(
    answer: Activations, model: Bundle, samples: Sequence[Sample], new: str, seed: int, folder: Path
) -> Bundle:
    """The candidate, made in `folder`: the trainer's own steps, but for how the answer came there."""
    folders = JobFolders(folder)
    job = make_job(new, tuple(sample.sample_id for sample in samples), "transfer", seed, 1)
    folders.make(job, samples, model.directory)
    read = inputs.read(folders.path(job.job_id))
    taught = Taught(answer.labels, answer.logits, answer.maps, answer.residuals)
    settled, _ = selection.settled(read, selection.assign(read, taught))
    tiers.learn(settled, taught, lambda stage, done, total: None, lambda: False)
    return bundle.load(folders.path(job.job_id) / "candidate", trusted=None)


def _answer(begun: Student, samples: Sequence[Sample], setting: Setting, side: int | None) -> Activations:
    """Of all views of a job, as the teacher gives it."""
    model, size = begun.bundle.manifest, begun.teacher.input
    question = Question(
        np.stack([sample.image for sample in samples]),
        [sample.sample_id for sample in samples],
        range(make_job("new", (), "transfer", 0, 1).views),
        model.flip,
        wanted(model.pairs),
        pool=side or max(size.height, size.width),
    )
    setting.report("ask teacher", 0, 1)
    answer = begun.teacher.answer([question])[0]
    setting.report("ask teacher", 1, 1)
    return answer
