"""What a job is made of, and what ends it before there is one."""

from __future__ import annotations

import numpy as np
from tiny_shop import JOB, LIME, PREPARE, Shop
from tiny_world import NEW, World, images, sample_ids

from agent import preparation as module
from agent.core import commands as do
from agent.core import events as ev
from agent.job import read_job


def test_a_job_is_prepared_of_what_is_novel(shop: Shop) -> None:
    lime, teal = shop.buffer(LIME), shop.buffer(images("teal", 10, seed=6))
    event = shop(PREPARE)
    assert isinstance(event, ev.JobPrepared) and event.samples >= 38
    job = read_job(shop.jobs.path(JOB))
    assert (job.categories, job.tier, job.views) == ((NEW,), "head", 2)
    # The classifier has its 2 % of false alarms; all else that it knows is left out.
    assert set(lime) >= set(job.sample_ids) - set(teal) and len(set(job.sample_ids) & set(teal)) <= 2
    reserved = {sample.sample_id for sample in shop.store.select(100) if sample.reserved_for == JOB}
    assert reserved == set(job.sample_ids)
    assert sum(job.holdout) == round(0.2 * len(job.sample_ids))


def test_the_features_are_those_of_the_present_model(world: World, shop: Shop) -> None:
    """The buffer may be older than the model; features of another would teach nonsense."""
    for identity, picture in zip(sample_ids(LIME), LIME, strict=True):
        shop.store.add(identity, picture, np.zeros(8, np.float32), 0.0, "teal", 0.0)
    shop(PREPARE)
    samples = {s.sample_id: s.feature for s in world.samples(LIME)}
    from agent.trainer import inputs

    read = inputs.read(shop.jobs.path(JOB))
    np.testing.assert_allclose(read.features, [samples[i] for i in read.job.sample_ids], atol=1e-5)


def test_preparing_again_finds_it_done(shop: Shop) -> None:
    shop.buffer(LIME)
    first = shop(PREPARE)
    inode = (shop.jobs.path(JOB) / "job.json").stat().st_ino
    assert shop(PREPARE) == first
    assert (shop.jobs.path(JOB) / "job.json").stat().st_ino == inode


def test_too_few_novel_samples_end_it_with_a_reason(shop: Shop) -> None:
    shop.buffer(images("teal", 30, seed=6))
    shop.buffer(LIME[:5])
    event = shop(PREPARE)
    assert isinstance(event, ev.JobUnpreparable) and "8 are needed" in event.reason
    assert not shop.jobs.exists(JOB)


def test_what_came_with_a_label_is_part_of_the_job_though_it_is_known(shop: Shop) -> None:
    """Of a category that is being learned or known already; one that this round is not about waits for its own."""
    lime, teal = shop.buffer(LIME[:10], NEW), shop.buffer(images("teal", 6, seed=6), "teal")
    shop.buffer(LIME[10:])
    navy = shop.buffer(images("navy", 5, seed=6), "navy")
    assert shop.workshop.count_new() == 45
    event = shop(PREPARE)
    assert isinstance(event, ev.JobPrepared)
    job = read_job(shop.jobs.path(JOB))
    given = dict(zip(job.sample_ids, job.given, strict=True))
    assert all(given[name] == NEW for name in lime) and all(given[name] == "teal" for name in teal)
    assert not set(navy) & set(given) and sum(label == "" for label in given.values()) >= 28
    assert shop.reports == [("job_prepared", {"samples": event.samples, "labelled": 16, "foreign": 5})]


def test_samples_of_known_categories_make_no_round(shop: Shop) -> None:
    shop.buffer(images("teal", 20, seed=6), "teal")
    event = shop(PREPARE)
    assert isinstance(event, ev.JobUnpreparable) and event.reason.startswith("0 samples are still novel")


def test_for_unseen_categories_all_that_is_buffered_is_taken(shop: Shop) -> None:
    shop.buffer(images("teal", 20, seed=6))
    event = shop(do.PrepareJob(JOB, (NEW,), 40, "transfer", unseen=True))
    assert isinstance(event, ev.JobPrepared) and event.samples == 20
    assert read_job(shop.jobs.path(JOB)).unseen


def test_unseen_categories_that_nothing_here_can_teach_end_it_with_a_reason(shop: Shop) -> None:
    """No teacher may be asked (tier sparse), and the model was taught nothing about them: said before any training."""
    shop.buffer(images("teal", 20, seed=6))
    event = shop(do.PrepareJob(JOB, (NEW,), 40, "sparse", unseen=True))
    assert isinstance(event, ev.JobUnpreparable) and f"no sample is of {NEW}" in event.reason
    assert not shop.jobs.exists(JOB)


def test_a_disk_that_refuses_ends_it_with_a_reason(shop: Shop) -> None:
    shop.buffer(LIME)
    (shop.folder / "jobs").rmdir()
    (shop.folder / "jobs").write_text("not a folder")
    event = shop(PREPARE)
    assert isinstance(event, ev.JobUnpreparable) and "cannot be written" in event.reason


def test_the_holdout_is_the_same_however_often_it_is_drawn() -> None:
    ids = sample_ids(LIME)
    for share in (0.05, 0.2, 0.5):
        drawn = module._holdout(ids, share)
        assert sum(drawn) == max(2, round(share * 40)) and drawn == module._holdout(ids, share)
    turned = dict(zip(ids[::-1], module._holdout(ids[::-1], 0.2), strict=True))
    assert turned == dict(zip(ids, module._holdout(ids, 0.2), strict=True))
