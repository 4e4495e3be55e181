"""A feature that says more than the logits need: beside the mean over the last map, which they are made of, the means
over each of cells x cells parts of an earlier map.

A network's last blocks make what it was taught to tell apart. Of a category that nobody taught it about they have
forgotten much of what an earlier map still shows, and where. The class statistics, by which a category is learned in
closed form, see both. Torch-free.
"""

from __future__ import annotations

import msgspec

from transfer.blueprint import blueprint, tensor_shapes
from transfer.spec import NetSpec

USUAL = 2
MOST_NUMBERS = 2**22
"""In the covariances of all categories' class statistics (16 MiB of float32): a device computes with all of them for
every image."""


def usual_cells(spec: NetSpec, labels: int, height: int, width: int) -> int:
    """USUAL cells a side, or 0 where a network of this many labels, for images of this size, has no equal ones or the
    covariances would have more than MOST_NUMBERS."""
    try:
        parted = with_cells(spec, USUAL, height, width)
    except ValueError:
        return 0
    return USUAL if labels * parted.feature_width**2 <= MOST_NUMBERS else 0


def with_cells(spec: NetSpec, cells: int, height: int, width: int) -> NetSpec:
    """The network with so many cells a side (none for 0), and the same weights and logits. Raises ValueError where for
    images of this size it cannot have them."""
    parted = msgspec.structs.replace(spec, cells=cells or msgspec.UNSET)
    tensor_shapes(blueprint(parted), height, width)
    return parted
