from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agent import preparation
from agent.config import Config
from benchmarks import rounds
from benchmarks.learner import judged, new_images
from benchmarks.rounds import DeviceRounds, RoundError, make_job
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy


@pytest.mark.parametrize("tier", ["head", "transfer"])
def test_a_round_is_the_trainer_s_own_and_leaves_a_bigger_model(
    make_setting: Callable[..., Setting], shipped: Student, tier: str
) -> None:
    setting = make_setting()
    learner = DeviceRounds(setting, shipped, 0, tier)
    assert learner.labels == ("across", "down", "red")
    learner.learn("plain", new_images(setting, "plain", 0))
    assert learner.labels == ("across", "down", "red", "plain") and learner.net.classes == 4
    assert learner.seconds > 0
    found = judged(learner, toy.data(), ("plain",))
    assert found.new is not None and found.new > 0 and found.all is not None
    assert shipped.bundle.manifest.labels == ("across", "down", "red")


def test_a_round_that_fails_says_why(make_setting: Callable[..., Setting], shipped: Student) -> None:
    learner = DeviceRounds(make_setting(), shipped, 0, "head")
    with pytest.raises(RoundError, match="plain"):
        learner.learn("plain", new_images(make_setting(), "plain", 0)[:3])
    assert learner.labels == ("across", "down", "red")


def test_the_job_is_the_one_that_the_daemon_writes() -> None:
    ids = tuple(f"{number * 7919:x}" for number in range(40))
    job = make_job("plain", ids, "sparse", seed=3, threads=2)
    training = Config().training
    assert job.holdout == preparation._holdout(ids, training.holdout_share)
    assert (job.epochs, job.views, job.batch_size) == (training.epochs, training.views, training.batch_size)
    assert job.given == ("plain",) * 40
    assert (job.tier, job.seed, job.threads, job.categories) == ("sparse", 3, 2, ("plain",))


def test_the_default_asks_the_teacher() -> None:
    assert rounds.default_tier() == "transfer"
    assert len(rounds.code()) == 64


def test_every_seed_draws_other_images(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting()
    first, second = new_images(setting, "plain", 0), new_images(setting, "plain", 1)
    assert first.shape == second.shape == (16, 16, 16, 3)
    assert (first == new_images(setting, "plain", 0)).all() and not np.array_equal(first, second)
