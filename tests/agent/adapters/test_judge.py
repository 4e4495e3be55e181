"""The judge measures both models on images that trained neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tiny_world import NEW, OLD, World, images

from agent.adapters.inference import InferenceError
from agent.adapters.judge import BATCH, judge
from agent.trainer.__main__ import run
from transfer import bundle
from transfer.bundle import Bundle


@pytest.fixture(scope="module")
def candidate(world: World, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What the head tier makes of the student."""
    job = world.job(tmp_path_factory.mktemp("judge"), images(NEW, 40, seed=4))
    assert run(job).ok
    return bundle.load(job / "candidate", trusted=None)


def test_a_good_candidate_gains_the_new_and_keeps_the_old(world: World, candidate: Bundle) -> None:
    scores = judge(world.bundle(), candidate, images(NEW, 20, seed=8), [NEW] * 20)
    assert (scores.old_count, scores.new_count) == (30, 20)
    assert scores.old_before == 1.0 and scores.new_before == 0.0
    assert scores.old_after is not None and scores.old_after >= 0.9
    assert scores.new_after is not None and scores.new_after >= 0.9


def test_a_bad_candidate_is_seen_to_be_bad(world: World, candidate: Bundle) -> None:
    scores = judge(candidate, world.bundle(), images(NEW, 20, seed=8), [NEW] * 20)
    assert scores.new_before is not None and scores.new_before >= 0.9 and scores.new_after == 0.0


def test_accuracy_is_a_share_over_all_batches(world: World, candidate: Bundle) -> None:
    pictures = np.concatenate([images(NEW, BATCH, seed=8), images("teal", BATCH, seed=8)])
    scores = judge(world.bundle(), candidate, pictures, [NEW] * len(pictures))
    assert scores.new_after == pytest.approx(0.5, abs=0.05) and scores.new_count == 2 * BATCH


def test_the_old_category_that_lost_most_is_named(world: World, candidate: Bundle) -> None:
    """The new category's own held-out images are among the old of the next round."""
    scores = judge(candidate, world.bundle(), images(NEW, 4), [NEW] * 4)
    assert (scores.hardest_hit, scores.hardest_before, scores.hardest_after) == (NEW, 1.0, 0.0)
    assert scores.hardest_count == 10


def test_where_nothing_is_lost_nobody_is_hit(world: World) -> None:
    scores = judge(world.bundle(), world.bundle(), images(NEW, 4), [NEW] * 4)
    assert (scores.hardest_hit, scores.hardest_count) == ("", 0)


def test_the_new_category_that_is_known_least_is_named(world: World, candidate: Bundle) -> None:
    pictures = np.concatenate([images(NEW, 12, seed=8), images("teal", 8, seed=8), images("plum", 2, seed=8)])
    scores = judge(world.bundle(), candidate, pictures, [NEW] * 12 + ["pink"] * 8 + ["grey"] * 2)
    # Grey's two images are as wrong as pink's eight, and prove less.
    assert (scores.weakest, scores.weakest_after, scores.weakest_count) == ("pink", 0.0, 8)
    assert scores.new_count == 22


def test_without_new_images_there_is_no_new_score(world: World, candidate: Bundle) -> None:
    scores = judge(world.bundle(), candidate, images(NEW, 1)[:0], [])
    assert (scores.new_before, scores.new_after, scores.new_count) == (None, None, 0)
    assert scores.old_after is not None


def test_without_a_holdout_there_is_no_old_score(world: World, candidate: Bundle, tmp_path: Path) -> None:
    student = world.bundle()
    files = {name: student.read(name) for name in student.manifest.files if name != bundle.HOLDOUT}
    bundle.save(tmp_path / "none", student.manifest, files, world.key)
    scores = judge(bundle.load(tmp_path / "none", trusted=None), candidate, images(NEW, 4), [NEW] * 4)
    assert (scores.old_before, scores.old_after, scores.old_count) == (None, None, 0)
    assert scores.new_after is not None


def test_an_empty_holdout_is_none_too(world: World, candidate: Bundle, tmp_path: Path) -> None:
    nothing: dict[str, np.ndarray] = {"images": images(OLD[0], 1)[:0], "targets": np.zeros(0, np.int64)}
    path = world.altered(tmp_path / "empty", files={bundle.HOLDOUT: safetensors.numpy.save(nothing)})
    assert judge(bundle.load(path, trusted=None), candidate, images(NEW, 4), [NEW] * 4).old_after is None


def test_a_candidate_that_cannot_be_loaded_is_an_error(world: World, tmp_path: Path) -> None:
    path = world.altered(tmp_path / "broken", files={bundle.MODEL: b"no model"})
    with pytest.raises(InferenceError):
        judge(world.bundle(), bundle.load(path, trusted=None), images(NEW, 4), [NEW] * 4)
