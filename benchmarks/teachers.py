"""Which teacher is trained where none is given, on what, and in which size photographs come.

cpu     what suits a small machine (`cloud_teacher.train.default_plan`); of photographs at 224, a ResNet-20 of one and a
        half times the usual width whose stem takes every fourth pixel
paper   WRN-28-10, with the paper's augmentation
"""

from __future__ import annotations

from benchmarks.recipes import Scale
from cloud_teacher.augmentation import PHOTOGRAPH_SIDE, Augmentation, papers
from cloud_teacher.datasets import Dataset
from cloud_teacher.train import default_plan
from transfer.spec import NetSpec, resnet_cifar, wide_resnet

PHOTOGRAPHS = 224
"""The paper's size of ImageNet's and Caltech's photographs: that of table 5."""
SMALL_PHOTOGRAPHS = 64


def photograph_side(table: str) -> int:
    return PHOTOGRAPHS if table == "table5" else SMALL_PHOTOGRAPHS


def teacher_spec(data: Dataset, scale: Scale, *, quick: bool) -> NetSpec:
    """The shape of the teacher; under --quick a toy of the same family."""
    classes = len(data.labels)
    if data.input.height >= PHOTOGRAPH_SIDE:
        if quick:
            return resnet_cifar(14, classes, stem_stride=8, widths=(8, 16, 32))
        return resnet_cifar(20, classes, stem_stride=4, widths=(24, 48, 96))
    if scale == "paper":
        return wide_resnet(16, 1, classes) if quick else wide_resnet(28, 10, classes)
    return default_plan(data)[0]


def teacher_augmentation(data: Dataset, scale: Scale) -> Augmentation | None:
    """The paper's at its scale and for photographs, else the shipped one."""
    if scale == "paper" or data.input.height >= PHOTOGRAPH_SIDE:
        return papers(data.input.height, flip=data.flip)
    return None
