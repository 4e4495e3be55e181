"""What every method of learning on the device looks like to a table: it learns one category after the other, and
predicts. The device's own rounds and all baselines are Learners."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.judge import measured, truth_in
from benchmarks.measured import Measured
from benchmarks.setting import Setting, drawn
from cloud_teacher.datasets import Dataset
from transfer.spec import NetSpec

Images = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.int64]


class Learner(Protocol):
    """Begins as the student and knows its categories. seconds: of the device's time so far, without the teacher's; None
    where no device could do it."""

    @property
    def seconds(self) -> float | None: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def net(self) -> NetSpec: ...

    def learn(self, category: str, images: Images) -> None:
        """`category` from its images uint8 [n, h, w, 3]; no image of any other category is there."""
        ...

    def predict(self, images: Images) -> Targets:
        """Indices into `labels` of images [n, h, w, 3]."""
        ...


def new_images(setting: Setting, category: str, seed: int) -> Images:
    """The images of a new category that a device meets: training images, of which neither the student nor its T9
    teacher saw any; other ones for every seed."""
    data = setting.dataset
    rows = np.flatnonzero(data.train_targets == data.labels.index(category))
    return data.train_images[drawn(rows, setting.plan.new_images, f"new:{seed}")]


def judged(learner: Learner, data: Dataset, new: tuple[str, ...]) -> Measured:
    """On the test images of all categories that the learner knows by now, of which `new` were learned on the device."""
    truth = truth_in(data, learner.labels)
    asked = truth >= 0
    images = data.test_images[asked]
    return measured(
        learner.predict(images),
        truth[asked],
        [learner.labels.index(label) for label in new],
        spec=learner.net,
        side=(images.shape[1], images.shape[2]),
        seconds=learner.seconds,
    )
