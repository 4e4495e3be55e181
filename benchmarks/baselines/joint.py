"""Joint training, the upper bound: the same student, trained on all training images of all categories at once.

T10: made by the very recipe of the student, all categories known to it from the start. T9: there is no teacher of all
categories, so the shipped student is trained on, the whole of it, on the labels and, for the categories that its
teacher knows, on the teacher's logits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.baselines.start import Start, grown, of_student, outputs
from benchmarks.judge import served
from benchmarks.learner import Images
from benchmarks.setting import Setting
from benchmarks.students import Student, key, recipe, student
from cloud_teacher import compute
from cloud_teacher.teacher_outputs import TeacherOutputs
from cloud_teacher.train import Rows, identity_of, optimise
from transfer.questions import to_tensor
from transfer.spec import NetSpec

LOGITS_WEIGHT = 0.5
"""Of the squared distance to the teacher's logits against the labels' cross entropy: as in `cloud_teacher.distil`, but
with the labels in full, because they are all that is known of the new category."""


class JointT10:
    """See `learner.Learner`. Trained when it is first asked, on all categories that it was told to learn by then."""

    def __init__(self, setting: Setting, begun: Student, seed: int) -> None:
        self._setting, self._begun, self._seed = setting, begun, seed
        self.labels = begun.bundle.manifest.labels
        self.net: NetSpec = begun.bundle.manifest.net
        self.seconds = None

    def learn(self, category: str, images: Images) -> None:
        self.labels = (*self.labels, category)

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        data = self._setting.dataset.only(self.labels)
        made = student(self._setting, recipe(self._setting, data.labels, self._seed), "T10").bundle
        self.net = made.manifest.net
        place = np.array([self.labels.index(label) for label in made.manifest.labels], np.int64)
        found: npt.NDArray[np.int64] = place[served(made, images)]
        return found


class JointT9:
    """See `learner.Learner`. Trained when it is first asked; its training goes on from its checkpoint."""

    def __init__(self, setting: Setting, begun: Student, seed: int) -> None:
        self._setting, self._begun, self._seed = setting, begun, seed
        self._start = of_student(begun)
        self._asked: list[tuple[str, Images]] = []
        self.seconds = None

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self._start.labels, *(category for category, _ in self._asked))

    @property
    def net(self) -> NetSpec:
        return self._start.net.spec

    def learn(self, category: str, images: Images) -> None:
        self._asked.append((category, images))

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        if self._asked:
            self._train()
        logits = outputs(self._start.net, images, self._start.input)[0][:, : len(self.labels)]
        return np.asarray(logits.argmax(dim=1).numpy(), np.int64)

    def _train(self) -> None:
        start, teacher, cache = self._start, self._begun.teacher, self._setting.cache
        for category, images in self._asked:
            net = grown(start, images, "mean feature", self._seed)
            start = Start(net.cpu(), (*start.labels, category), start.input, start.flip)
        self._asked = []
        net, data = start.net, self._setting.dataset.only(start.labels)
        column = np.array([start.labels.index(label) for label in data.labels], np.int64)
        targets = torch.from_numpy(column[data.train_targets])
        shared = [at for at, label in enumerate(start.labels) if label in teacher.labels]
        theirs = [teacher.labels.index(start.labels[at]) for at in shared]
        schedule = self._setting.plan.joint
        views = min(self._setting.plan.views, schedule.epochs)
        said = TeacherOutputs(teacher, data, cache)
        said.prepare(views, lambda done, total: self._setting.report("ask teacher", done, total))
        for parameter in net.parameters():
            parameter.requires_grad_(True)

        def loss_of(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
            pictures = said.pictures(epoch % views, rows)
            with compute.rounded():
                logits = net(to_tensor(pictures, start.input).to(compute.device())).logits.float()
            wanted = said.of(epoch % views, rows).logits[:, theirs].to(compute.device())
            labels = functional.cross_entropy(logits, targets[torch.from_numpy(rows)].to(compute.device()))
            return labels + LOGITS_WEIGHT * functional.mse_loss(logits[:, shared], wanted)

        name = identity_of("joint", self._begun.bundle.digest, data.fingerprint, start.labels, schedule, self._seed)
        optimise(
            net,
            len(targets),
            loss_of,
            schedule,
            stage="train joint",
            cache_dir=cache,
            identity=name,
            report=self._setting.report,
        )
        self._start = start


def of_all(setting: Setting, seed: int) -> str:
    """Names the T10 upper bound's student."""
    return key(setting, recipe(setting, setting.dataset.labels, seed), "T10")
