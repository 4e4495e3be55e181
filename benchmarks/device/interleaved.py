"""Timing peers against each other on a machine that has other work, too."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Seconds = Sequence[float]


def interleaved(
    peers: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_ups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call, [rounds] by peer; `warm_ups` calls of each before that do not count.

    Each round calls every peer once, each time in another order (the same ones in every run): what else the machine
    does meets all alike, and no peer always runs behind the same other, who might leave it warm caches, or cold ones.
    """
    names = list(peers)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(warm_ups):
        for name in names:
            peers[name]()
    for number in range(rounds):
        for name in random.Random(number).sample(names, len(names)):
            began_s = clock()
            peers[name]()
            taken[name].append(clock() - began_s)
    return taken


def ratio(mine: Seconds, theirs: Seconds) -> float:
    """Median over the rounds of mine by theirs: both of a round ran under the same load."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def median_ms(seconds: Seconds) -> float:
    return 1000 * statistics.median(seconds)
