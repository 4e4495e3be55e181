from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from agent.adapters.cores import apart

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores and Linux: with one there is nothing to choose")


@pytest.fixture
def other() -> Iterator[int]:
    """A thread that waits, by its native id."""
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    ending.set()
    thread.join()


def cores_of(thread: int) -> set[int]:
    return os.sched_getaffinity(thread)


@two_cores
def test_two_threads_share_no_core_and_use_all_of_them_and_are_free_again_afterwards(other: int) -> None:
    mine, before = threading.get_native_id(), cores_of(other)

    with apart(other):
        assert cores_of(mine) and cores_of(other)
        assert not cores_of(mine) & cores_of(other)
        assert cores_of(mine) | cores_of(other) == set(CORES)

    assert cores_of(mine) == set(CORES)
    assert cores_of(other) == before


@two_cores
def test_they_are_free_again_after_an_error(other: int) -> None:
    with pytest.raises(ValueError, match="mine"), apart(other):
        raise ValueError("mine")
    assert cores_of(threading.get_native_id()) == cores_of(other) == set(CORES)


@two_cores
def test_what_the_other_thread_was_restricted_to_stays(other: int) -> None:
    os.sched_setaffinity(other, CORES[:1])
    with apart(other):  # one core in common: no choice
        assert cores_of(threading.get_native_id()) == set(CORES)
    assert cores_of(other) == set(CORES[:1])


@pytest.mark.parametrize("nobody", [None, 2**30, threading.get_native_id()])
def test_without_another_thread_nothing_happens(nobody: int | None) -> None:
    before = os.sched_getaffinity(0) if CORES else None
    with apart(nobody):
        assert before is None or os.sched_getaffinity(0) == before


def test_without_the_system_call_nothing_happens(monkeypatch: pytest.MonkeyPatch, other: int) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with apart(other):
        pass
