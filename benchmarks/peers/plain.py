"""The plain net: the student's shape from random weights, taught by the labels alone, as long as the student."""

from __future__ import annotations

from dataclasses import replace

from cloud_teacher.distil import Recipe


def plain(recipe: Recipe) -> Recipe:
    """The recipe of a net of the same shape that owes its teacher nothing else."""
    return replace(recipe, inherit=False, taught="labels")
