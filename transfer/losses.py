"""The three parts of the paper's loss (arXiv 2201.10947, section 4.1): l = l1*J1 + l2*sum(Jb) + l3*J3.

Each is computed per sample and averaged over the batch, so that a sample counts the same in a batch of any size.
Square roots carry EPSILON: the slope of sqrt is infinite where student and teacher agree.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-8

CrossEntropy = Literal["softmax", "bce"]


def j1(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of the logits: sqrt(sum_i (FC_i^t - FC_i^s)^2). Both [n, C], the columns both sides know."""
    return torch.sqrt((teacher - student).square().sum(dim=1) + EPSILON).mean()


def jb(student: Tensor, teacher_kept: Tensor, residual: Tensor) -> Tensor:
    """Distance of a pair of block maps: sqrt(sum_i (Q_i^t - Q_i^s)^2), Q = F / ||F|| over a sample's whole map (eq. 4).

    student, teacher_kept [n, K, h, w]: the student's map and the teacher's channels that it stands for; residual [n]:
    the energy (sum of squares) of the teacher's other channels. With the student's map scattered to the kept channels
    the others are zero on its side, so this is exactly the distance of the padded maps: the other channels enter only
    through the teacher's norm and through what they add, both of which the residual gives.
    """
    energy = teacher_kept.square().sum(dim=(1, 2, 3)) + residual
    scale = torch.rsqrt(energy + EPSILON)
    gap = unit(student) - teacher_kept * scale[:, None, None, None]
    return torch.sqrt(gap.square().sum(dim=(1, 2, 3)) + residual * scale.square() + EPSILON).mean()


def j3(student: Tensor, targets: Tensor, kind: CrossEntropy = "softmax") -> Tensor:
    """Cross entropy of the logits [n, C] against targets int [n].

    `bce` is the paper's formula with the minus sign it lacks, summed over the categories: -sum_i [Y_i log P_i +
    (1 - Y_i) log(1 - P_i)], P the softmax. `softmax` is the usual cross entropy, its first term alone.
    """
    if kind == "softmax":
        return functional.cross_entropy(student, targets)
    log_p = functional.log_softmax(student, dim=1)
    # The bound keeps log(1 - P_i) and its slope finite where P_i is 1 to the last bit.
    log_not_p = torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))
    truth = functional.one_hot(targets, student.shape[1]).bool()
    return -torch.where(truth, log_p, log_not_p).sum(dim=1).mean()


def unit(maps: Tensor) -> Tensor:
    """Q = F / ||F||, the norm over each sample's whole map [K, h, w] (eq. 4); a map of zeros stays zero."""
    return maps * torch.rsqrt(maps.square().sum(dim=(1, 2, 3), keepdim=True) + EPSILON)


def pooled(maps: Tensor, side: int) -> Tensor:
    """Maps [n, K, h, w] averaged to at most `side` x `side`, as they go over the wire; smaller ones unchanged."""
    height, width = maps.shape[2:]
    return functional.adaptive_avg_pool2d(maps, (min(side, height), min(side, width)))
