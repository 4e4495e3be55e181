"""The device's own learning round, for real: its job folder, the teacher's answers as they go over the wire, the
trainer as a process of its own, and the candidate bundle that it leaves.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.adapters.inference import Classifier
from agent.adapters.job_folder import JobFolders
from agent.adapters.sample_store import Sample
from agent.config import Config
from agent.core import policy
from agent.job import Job, Tier, read_result
from benchmarks.judge import BATCH, served
from benchmarks.learner import Images, Targets
from benchmarks.setting import Setting
from benchmarks.students import Student
from transfer import activations, bundle
from transfer.bundle import Bundle
from transfer.questions import Question
from transfer.spec import NetSpec

ROOT = Path(__file__).parent.parent
ANSWER_IMAGES = 50


class RoundError(RuntimeError):
    """The round ended without a candidate; the message is the trainer's."""


_MATHEMATICS = ("activations", "class_statistics", "four_bits", "head", "losses", "regression", "unseen_rows", "views")
"""Files of `transfer` that decide what a round comes to."""


def default_tier() -> Tier:
    """Of a device with the shipped configuration whose owner has allowed it to ask the teacher."""
    config = Config()
    return policy.tier_for(replace(config, privacy=replace(config.privacy, mode="upload", consent_to_upload=True)))


def code() -> str:
    """Changes with what the trainer does: results of an earlier trainer are not shown as those of this one."""
    files = [*(ROOT / "agent" / "trainer").glob("*.py"), *(ROOT / "transfer" / f"{n}.py" for n in _MATHEMATICS)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


class DeviceRounds:
    """A device that holds a student's bundle and learns by rounds of one tier. See `learner.Learner`.

    Every round is a fresh folder: a round takes a minute, so one that was stopped begins again.
    """

    def __init__(self, setting: Setting, student: Student, seed: int, tier: Tier) -> None:
        self._setting, self._teacher, self._seed, self._tier = setting, student.teacher, seed, tier
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-round-")
        self.bundle = student.bundle
        self.seconds = 0.0
        self.refused = 0

    @property
    def labels(self) -> tuple[str, ...]:
        return self.bundle.manifest.labels

    @property
    def net(self) -> NetSpec:
        return self.bundle.manifest.net

    def learn(self, category: str, images: Images) -> None:
        folders = JobFolders(Path(self._folder.name) / f"{len(self.labels)}")
        samples = samples_of(self.bundle, images)
        job = make_job(category, tuple(s.sample_id for s in samples), self._tier, self._seed, self._setting.threads)
        folders.make(job, samples, self.bundle.directory)
        folder = folders.path(job.job_id)
        if self._tier == "transfer":
            self._answer(folder, samples, job.views)
        began_s = time.monotonic()
        command = [sys.executable, "-m", "agent.trainer", str(folder)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.seconds += time.monotonic() - began_s
        result = read_result(folder)
        if ended.returncode or result is None or not result.ok:
            lines = ended.stderr.strip().splitlines()
            raise RoundError(result.reason if result else lines[-1] if lines else f"exit status {ended.returncode}")
        self.refused += len(result.refused)
        self.bundle = bundle.load(folder / "candidate", trusted=None)

    def predict(self, images: Images) -> Targets:
        return served(self.bundle, images)

    def _answer(self, folder: Path, samples: list[Sample], views: int) -> None:
        """What the teacher worker would send, rounded as it is on the wire."""
        for at in range(0, len(samples), ANSWER_IMAGES):
            self._setting.report("ask teacher", at, len(samples))
            some = samples[at : at + ANSWER_IMAGES]
            question = Question(
                np.stack([sample.image for sample in some]),
                [sample.sample_id for sample in some],
                range(views),
                self.bundle.manifest.flip,
                activations.wanted(self.bundle.manifest.pairs),
            )
            answer = activations.encode(self._teacher.answer([question])[0])
            (folder / "activations" / f"{at:06d}.safetensors").write_bytes(answer)
        self._setting.report("ask teacher", len(samples), len(samples))


def make_job(category: str, sample_ids: tuple[str, ...], tier: Tier, seed: int, threads: int) -> Job:
    """The job that the daemon would write with its shipped configuration, of samples that came with their label, as
    from a folder that is named after it: so it is in the paper, and so the baselines have them."""
    training = Config().training
    held = set(
        sorted(sample_ids, key=lambda name: name[::-1])[: max(2, round(len(sample_ids) * training.holdout_share))]
    )
    return Job(
        job_id="job-000001",
        categories=(category,),
        given=(category,) * len(sample_ids),
        tier=tier,
        sample_ids=sample_ids,
        holdout=tuple(name in held for name in sample_ids),
        views=training.views,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        quantise=training.quantise,
        threads=threads,
        seed=seed,
    )


def samples_of(model: Bundle, images: Images) -> list[Sample]:
    """As the device's store would hand them out: with the features of the model that it serves."""
    classifier = Classifier(model, 0)
    verdicts = [v for at in range(0, len(images), BATCH) for v in classifier.classify(images[at : at + BATCH])]
    ids = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    return [
        Sample(sample_id, image, verdict.feature, verdict.novelty, verdict.label, 0.0, "", "")
        for sample_id, image, verdict in zip(ids, images, verdicts, strict=True)
    ]
