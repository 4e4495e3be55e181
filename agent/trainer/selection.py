"""Which of a job's samples really are of the new category.

The buffer holds what looked novel, and some known images always do. Where a teacher that knows the category has
answered, its word decides; where none has, the samples that lie together in feature space do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transfer.head import ClassStatistics, largest_cluster


def by_teacher(logits: npt.NDArray[np.float32], labels: Sequence[str], category: str) -> npt.NDArray[np.bool_] | None:
    """[n] mask of the samples whose largest teacher logit [n, C] is `category`; None where it does not know it."""
    if category not in labels:
        return None
    mask: npt.NDArray[np.bool_] = logits.argmax(axis=1) == list(labels).index(category)
    return mask


def by_cluster(features: npt.NDArray[np.float32], known: ClassStatistics) -> npt.NDArray[np.bool_]:
    """[n] mask of the samples in the largest cluster of features [n, d]; all of them where they are too few to tell."""
    if len(features) < 8:
        return np.ones(len(features), bool)
    return largest_cluster(features, known)
