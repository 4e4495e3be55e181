"""Step: one optimiser step of each tier of learning, beside full fine-tuning in plain PyTorch.

A student of 0.51 M parameters (ResNet-20 at 1.4 times its width, random: what it has learned makes no difference)
learns an eleventh category from 500 images of 32 x 32, of which 400 train, in batches of 64 views on one thread. What
is timed of the tiers is the product's own code, called as the trainer calls it; the peers step in turns:

transfer  three convolutions and the classifier, down the loss against the teacher's answers (J1, Jb, J3)
sparse    the last convolution and the classifier, without a teacher
head      no step on the network at all: see below
full      every weight, batch norms in training mode, SGD with momentum, NCHW: what a user of PyTorch would write

`transfer`, `sparse`: a step's time by that of a step of `full`. What comes before the first step and once a round (the
prefix of the network that never changes is computed once and kept in 8 bits) is not in it; benchmark `round` has it.
`head`: tier head computes class statistics, then a softmax regression by 300 passes over features, those of the new
samples and pseudo-features of the old categories. All of its learning is timed, and divided by the batches of 64 that
these passes amount to. `head_in_full_steps` is the same undivided: how many steps of full fine-tuning all of it costs.
`peak_rss_mib`: the most that the trainer's process (`python -m agent.trainer JOB`, import of torch included) held in a
job of tier transfer; the rows have it of every tier, and of a process that only takes three steps of `full`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from agent.job import Tier
from agent.trainer import candidate, inputs, selection, teacher, tiers
from agent.trainer import rows as last_layer
from agent.trainer.inputs import Inputs
from agent.trainer.task import Rows
from agent.trainer.teacher import Taught
from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings, Row
from benchmarks.device.interleaved import Seconds, interleaved, median_ms, ratio
from benchmarks.device.jobs import random_job
from benchmarks.device.model import SPEC, bundle_of_half_a_million
from benchmarks.device.peak import peak_mib
from benchmarks.device.plain import FineTuning
from transfer import regression
from transfer.spec import NetSpec, resnet_cifar

TIERS: tuple[Tier, ...] = ("transfer", "sparse", "head")
TARGETS = {"head": 0.001, "sparse": 0.06, "transfer": 0.45}
FULL = "full"
BATCH = 64
PEAK_EPOCHS = 1
"""Later epochs hold no more than the first."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Extent:
    """samples: of the job; rounds: steps of each peer; peaks: whose memory is measured; spec: of the student."""

    samples: int
    rounds: int
    peaks: Sequence[str] = (*TIERS, FULL)
    spec: NetSpec = SPEC


USUAL = Extent(samples=500, rounds=40)
QUICK = Extent(samples=60, rounds=5, peaks=("transfer",), spec=resnet_cifar(20, SPEC.classes))


def measure(conditions: Conditions, extent: Extent | None = None) -> Findings:
    extent = extent or (QUICK if conditions.quick else USUAL)
    with TemporaryDirectory(prefix="benchmark-step-") as name:
        folder = Path(name)
        student = bundle_of_half_a_million(folder / "student", spec=extent.spec)
        jobs = {tier: random_job(folder, student, tier, extent.samples) for tier in TIERS}
        conditions.note(f"{extent.rounds} steps of each, in turns")
        seconds, batches = _timed(jobs, extent.rounds)
        conditions.note(f"the memory of {', '.join(extent.peaks)}")
        peaks = {name: _peak_mib(name, folder / "short", student, extent.samples) for name in extent.peaks}
    found = figures(seconds, batches)
    found["peak_rss_mib"] = peaks.get("transfer")
    return Findings("step", found, rows(seconds, batches, peaks), TARGETS)


def figures(seconds: dict[str, Seconds], head_batches: int) -> dict[str, float | None]:
    """From the seconds of every call, by tier and `full`; a call of `head` is all of its learning."""
    whole = ratio(seconds["head"], seconds[FULL])
    return {
        "head": whole / head_batches,
        "sparse": ratio(seconds["sparse"], seconds[FULL]),
        "transfer": ratio(seconds["transfer"], seconds[FULL]),
        "head_in_full_steps": whole,
    }


def rows(seconds: dict[str, Seconds], head_batches: int, peaks: dict[str, float | None]) -> list[Row]:
    by_full = {**figures(seconds, head_batches), FULL: 1.0}
    per_call = {name: head_batches if name == "head" else 1 for name in seconds}
    return [
        {
            "step": name,
            "median_ms": median_ms(seconds[name]) / per_call[name],
            "by_full": by_full[name],
            "peak_rss_mib": peaks.get(name),
        }
        for name in (FULL, *TIERS)
    ]


def _timed(jobs: dict[Tier, Path], rounds: int) -> tuple[dict[str, Seconds], int]:
    """Seconds of every call, and the batches of 64 that one call of `head` goes over."""
    torch.set_num_threads(1)
    settled = {tier: _settled(folder) for tier, folder in jobs.items()}
    peers: dict[str, Step] = {tier: _tier(*settled[tier]) for tier in TIERS if tier != "head"}
    given, _ = settled["head"]
    peers |= {"head": _head(given), FULL: _full(given)}
    features = given.known * regression.PSEUDO_FEATURES + int(given.used.sum())
    batches = regression.STEPS * math.ceil(features / BATCH)
    return dict(interleaved(peers, rounds, warm_ups=2)), batches


def _peak_mib(name: str, folder: Path, student: Path, samples: int) -> float | None:
    """Of the trainer in the tier `name`, or of a process that takes a few steps of `full`."""
    for tier in TIERS:
        if tier == name:
            return peak_mib("agent.trainer", str(random_job(folder, student, tier, samples, epochs=PEAK_EPOCHS)))
    return peak_mib("benchmarks.device.plain", str(student))


def _settled(job: Path) -> tuple[Inputs, Taught | None]:
    read = inputs.read(job)
    taught = teacher.from_answers(read)
    return selection.settled(read, selection.assign(read, taught))[0], taught


def _tier(given: Inputs, taught: Taught | None) -> Step:
    learning = tiers.lesson(given, taught, tiers.grown(given, taught), lambda stage, done, total: None)
    old = tiers.pseudo(given.model.statistics(), BATCH, seed=0)
    batches = _batches(len(learning.task))
    # A share of nothing is as much work, and random weights stay where they are.
    return lambda: learning.step(next(batches), old, share=0.0)


def _head(given: Inputs) -> Step:
    """All of the tier's learning; to write and to check the model is left out, as in the other tiers."""

    def learn() -> None:
        statistics = candidate.statistics(given, given.features)
        last_layer.ended(given, last_layer.begun(given), given.features, statistics)

    return learn


def _full(given: Inputs) -> Step:
    net, used = tiers.grown(given, None), given.used
    training = FineTuning(net, given.images[used], given.assigned[used], given.model.manifest.input, rate=1e-3)
    batches = _batches(int(used.sum()))
    return lambda: training.step(next(batches))


def _batches(count: int) -> Iterator[Rows]:
    """Batches of 64 out of `count`, drawn anew each time, without end."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, count, BATCH)
