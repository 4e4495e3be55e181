"""A feature that says where: the mean over each of cells x cells parts of the last map, instead of over all of it.

The network computes the same logits as before: their rows are repeated over the cells. But where what is new was never
taught, the mean over all pixels has lost much of what would tell it apart, and what is learned in closed form from the
feature is learned better from its cells. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from transfer.blueprint import blueprint, tensor_shapes
from transfer.operations import Mean
from transfer.spec import NetSpec

AnyFloat = TypeVar("AnyFloat", bound=np.floating)
Weights = Mapping[str, npt.NDArray[np.float32]]

USUAL = 2
MOST_NUMBERS = 2**22
"""In the covariances of all categories' class statistics (16 MiB of float32): a device computes with all of them for
every image."""


def usual_cells(spec: NetSpec, labels: int, height: int, width: int) -> int:
    """USUAL cells a side, or 1 where a network of this many labels, for images of this size, has no equal ones or the
    covariances would have more than MOST_NUMBERS."""
    plan = blueprint(spec)
    feature = next(operation for operation in plan.operations if operation.name == plan.feature)
    assert isinstance(feature, Mean)
    channels, high, wide = tensor_shapes(plan, height, width)[feature.source]
    divided = high % USUAL == 0 and wide % USUAL == 0
    return USUAL if divided and labels * (channels * USUAL**2) ** 2 <= MOST_NUMBERS else 1


def split(spec: NetSpec, weights: Weights, cells: int) -> tuple[NetSpec, dict[str, npt.NDArray[np.float32]]]:
    """The network with a feature of cells x cells parts, and the same logits. `spec` must have a feature of one."""
    if spec.cells_a_side != 1:
        raise ValueError(f"the network has {spec.cells_a_side} cells a side already")
    if cells == 1:
        return spec, dict(weights)
    name = f"{blueprint(spec).logits}.weight"
    return msgspec.structs.replace(spec, cells=cells), {**weights, name: rows_in_cells(weights[name], cells)}


def rows_in_cells(rows: npt.NDArray[AnyFloat], cells: int) -> npt.NDArray[AnyFloat]:
    """Rows [k, d] of a linear layer as [k, cells * cells * d], which say of a feature in cells what they said of it
    `over_all`."""
    tiled: npt.NDArray[AnyFloat] = (np.tile(rows, (1, cells**2)) / cells).astype(rows.dtype)
    return tiled


def over_all(features: npt.NDArray[AnyFloat], cells: int) -> npt.NDArray[AnyFloat]:
    """[n, cells * cells * d] to [n, d]: the mean over the whole map; and of rows of a linear layer, what they say of
    a map that is alike everywhere."""
    whole: npt.NDArray[AnyFloat] = (features.reshape(len(features), cells**2, -1).mean(axis=1) * cells).astype(
        features.dtype
    )
    return whole
