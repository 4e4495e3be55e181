"""Groups of images as they are served: how unlikely known images alone would score so high together.

One image is weak evidence where categories are close, so single flags come and go; a group says whether something new
has begun to arrive (`transfer.novel_group`). Only scores are kept, and nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.adapters.inference import Classifier, Verdict
from agent.core.facts import GroupView
from transfer.novel_group import chance


class GroupWatch:
    """Measures every `size` images in a row that one model served, none twice, so that the share of false alarms among
    them is what `chance` promises; 0 measures none. `serving`: the model that serves now. Used by one thread."""

    def __init__(self, size: int, serving: Callable[[], Classifier], measured: Callable[[GroupView], None]) -> None:
        self._size, self._serving, self._measured = size, serving, measured
        self._generation = 0
        self._scores: list[float] = []
        self._kept = 0

    def take(self, verdict: Verdict) -> None:
        """Raises transfer.head.HeadError where the model's statistics cannot be used."""
        if not self._size:
            return
        if verdict.generation != self._generation:
            self._generation = verdict.generation
            self._begin()
        self._scores.append(verdict.novelty)
        self._kept += verdict.kept
        if len(self._scores) < self._size:
            return
        scores, kept = np.array(self._scores, np.float32), self._kept
        self._begin()
        model = self._serving()
        if model.generation == self._generation:  # else it was exchanged while these waited to be recorded
            view = GroupView(self._size, kept, chance(scores, model.statistics), self._generation)
            self._measured(view)

    def _begin(self) -> None:
        self._scores, self._kept = [], 0
