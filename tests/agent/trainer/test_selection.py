"""What each sample is taken to be: as it was labelled, by the teacher's word, or by lying together; and what of it is
enough to learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import NEW, OLD, World, images

from agent.trainer import inputs
from agent.trainer.inputs import REFUSED, UNLABELLED, Inputs
from agent.trainer.selection import MIN_CHOSEN, assign, by_cluster, by_teacher, foreign, settled
from agent.trainer.teacher import Taught
from transfer.head import HeadError

LABELS = (*OLD, NEW, "pink")
KNOWN = len(OLD)
PICTURES = np.concatenate([images(NEW, 20, seed=4), images("teal", 10, seed=4)])
FOURTH = [row for row in range(30) if row % 4 == 0]

Prepare = Callable[..., Inputs]


@pytest.fixture
def prepared(world: World, tmp_path: Path) -> Prepare:
    """prepared(**fields of Job) -> the inputs of a job about PICTURES, every fourth held out."""
    return lambda **changes: inputs.read(world.job(tmp_path, PICTURES, **changes))


@pytest.fixture(scope="module")
def of_three(world: World, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A job about three new categories."""
    return inputs.read(world.job(tmp_path_factory.mktemp("three"), PICTURES, categories=(NEW, "pink", "grey")))


def told(labels: Sequence[str], said: Sequence[str]) -> Taught:
    """A teacher that knows `labels` and says `said` of the samples."""
    logits = np.zeros((len(said), 1, len(labels)), np.float32)
    for row, label in enumerate(said):
        logits[row, 0, labels.index(label)] = 9
    return Taught(tuple(labels), logits, {}, {})


# ------------------------------------------------------------------------------------------------ the teacher's word


def test_the_teachers_largest_logit_decides() -> None:
    taught = told(("pink", "amber", NEW, "zebra"), ["pink", NEW, "amber", "zebra"])
    word = by_teacher(taught, LABELS, KNOWN)
    assert word is not None and word.tolist() == [4, 3, 0, REFUSED]


def test_a_teacher_that_knows_none_of_the_new_categories_has_no_word() -> None:
    assert by_teacher(told(OLD, ["teal"]), LABELS, KNOWN) is None
    assert by_teacher(told((*OLD, "pink"), ["teal"]), LABELS, KNOWN) is not None


def test_several_categories_are_told_apart_by_the_teacher(prepared: Prepare) -> None:
    read = prepared(categories=(NEW, "pink"))
    assigned = assign(read, told((*OLD, NEW, "pink"), [NEW] * 12 + ["pink"] * 8 + ["teal"] * 10))
    assert assigned.tolist() == [3] * 12 + [4] * 8 + [REFUSED] * 10


def test_the_teachers_word_does_not_change_what_is_known(prepared: Prepare) -> None:
    """It says teal of what the student finds novel: reason to refuse it, not to make it part of teal."""
    assigned = assign(prepared(), told((*OLD, NEW), ["teal"] * 30))
    assert (assigned == REFUSED).all()


# ------------------------------------------------------------------------------------------------ given labels


def test_a_given_label_beats_the_teacher(prepared: Prepare) -> None:
    read = prepared(given=(NEW, "teal", "zebra", *[""] * 27))
    assigned = assign(read, told((*OLD, NEW), ["amber"] * 3 + [NEW] * 27))
    assert assigned.tolist() == [3, OLD.index("teal"), REFUSED] + [3] * 27
    assert foreign(read) == 1


def test_several_categories_need_no_teacher_where_the_samples_are_labelled(prepared: Prepare) -> None:
    read = prepared(categories=(NEW, "pink"), given=(*["pink"] * 5, *[NEW] * 5, *[""] * 20))
    assigned = assign(read, None)
    assert assigned.tolist() == [4] * 5 + [3] * 5 + [REFUSED] * 20


def test_one_category_of_which_some_are_labelled_is_found_by_where_they_lie(prepared: Prepare) -> None:
    read = prepared(given=(*[NEW] * 5, "zebra", *[""] * 24))
    assigned = assign(read, None)
    assert (assigned[:5] == 3).all() and assigned[5] == REFUSED
    assert (assigned[6:20] == 3).mean() > 0.7 and (assigned[20:] == REFUSED).mean() > 0.7


# ------------------------------------------------------------------------------------------------ nobody's word


def test_without_any_word_several_categories_cannot_be_told_apart(prepared: Prepare) -> None:
    assert (assign(prepared(categories=(NEW, "pink")), None) == REFUSED).all()


def test_what_nobody_knows_trains_by_the_answer_where_that_is_asked_for(prepared: Prepare) -> None:
    taught = told((*OLD, NEW), [NEW] * 20 + ["teal"] * 10)
    given = ("zebra", *[""] * 29)
    assert (
        assign(prepared(use_unlabelled=True, given=given), taught).tolist() == [REFUSED] + [3] * 19 + [UNLABELLED] * 10
    )
    assert set(assign(prepared(use_unlabelled=True), None).tolist()) == {3, REFUSED}  # no answer to train by


def test_of_unseen_categories_all_samples_are_of_use(prepared: Prepare) -> None:
    read = prepared(categories=("pink",), unseen=True)
    taught = told((*OLD, "pink"), ["teal"] * 30)
    assert (assign(read, taught) == UNLABELLED).all()
    assert (assign(read, None) == REFUSED).all()  # lying together makes no unseen category
    ready, left_out = settled(read, assign(read, taught))
    assert ready.job.categories == ("pink",) and left_out == {} and ready.used.all()


def test_of_unseen_categories_a_few_samples_are_none(prepared: Prepare) -> None:
    read = prepared(categories=("pink", NEW), unseen=True)
    ready, left_out = settled(read, np.array([3] * 3 + [4] * 17 + [1] * 4 + [UNLABELLED] * 6))
    assert ready.job.categories == (NEW, "pink") and left_out == {}  # those without samples come last
    assert ready.assigned.tolist() == [UNLABELLED] * 3 + [3] * 17 + [1] * 4 + [UNLABELLED] * 6
    assert ready.train[:3].all() and ready.of(3).sum() == 13 and ready.unsampled == [4]


# ------------------------------------------------------------------------------------------------ what is enough


def test_a_category_with_too_few_samples_is_left_out_and_the_rest_move_up(prepared: Prepare) -> None:
    read = prepared(categories=("pink", NEW))
    assigned = np.array([3] * 3 + [4] * 17 + [1] * 4 + [UNLABELLED] * 6)
    ready, left_out = settled(read, assigned)
    assert ready.job.categories == (NEW,) and left_out == {"pink": 2}  # the first of its three is held out
    assert ready.labels == (*OLD, NEW) and ready.known == KNOWN
    assert ready.assigned.tolist() == [REFUSED] * 3 + [3] * 17 + [1] * 4 + [UNLABELLED] * 6


def test_only_new_categories_are_held_out(prepared: Prepare) -> None:
    """What came with the label of an old category judges nothing, so it may all train."""
    ready, _ = settled(prepared(), np.array([3] * 20 + [1] * 5 + [UNLABELLED] * 5))
    assert np.flatnonzero(~ready.train).tolist() == [row for row in FOURTH if row < 20]
    assert ready.of(1).sum() == 5 and ready.of(3).sum() == 15 and ready.used.sum() == 25


def test_a_category_without_a_judge_is_given_one_if_it_can_spare_it(prepared: Prepare) -> None:
    read = prepared(categories=(NEW, "pink"))
    assigned = np.full(30, REFUSED)
    assigned[[1, 2, 3, 5, 6]] = 3  # none of them is held out
    assigned[[7, 9, 10, 11]] = 4
    ready, left_out = settled(read, assigned)
    assert ready.job.categories == (NEW,) and ready.of(3).sum() == MIN_CHOSEN
    assert left_out == {"pink": MIN_CHOSEN}  # enough to train with, none to judge by
    (judge,) = np.flatnonzero(~ready.train)
    ids = read.job.sample_ids
    assert judge == min([1, 2, 3, 5, 6], key=lambda row: ids[row][::-1])


def test_a_category_that_too_many_are_held_out_of_gets_some_back(prepared: Prepare) -> None:
    assigned = np.full(30, REFUSED)
    assigned[[0, 4, 8, 12, 1, 2]] = 3  # four of six are held out
    ready, left_out = settled(prepared(), assigned)
    assert left_out == {} and ready.of(3).sum() == MIN_CHOSEN and (~ready.train).sum() == 2


def test_inputs_as_they_are_read_are_of_no_use_yet(prepared: Prepare) -> None:
    read = prepared()
    assert (read.assigned == REFUSED).all() and not read.used.any()


@settings(deadline=None, max_examples=60)
@given(drawn=st.lists(st.integers(REFUSED, KNOWN + 2), min_size=30, max_size=30))
def test_what_is_settled_can_be_learned(of_three: Inputs, drawn: list[int]) -> None:
    read, assigned = of_three, np.array(drawn)
    ready, left_out = settled(read, assigned)
    assert {*ready.job.categories, *left_out} == set(read.job.categories)
    assert list(ready.job.categories) == [label for label in read.job.categories if label not in left_out]
    for index, label in enumerate(read.labels):
        if index >= KNOWN and (assigned == index).sum() > MIN_CHOSEN:
            assert label not in left_out
    for index, label in enumerate(ready.labels):
        before = assigned == read.labels.index(label)
        np.testing.assert_array_equal(ready.assigned == index, before)  # nothing is taken for something else
        if index >= KNOWN:
            assert ready.of(index).sum() >= MIN_CHOSEN and (before & ~ready.train).any()
    np.testing.assert_array_equal(ready.assigned == UNLABELLED, assigned == UNLABELLED)
    assert (ready.assigned[~ready.train] >= KNOWN).all()
    again, nothing = settled(ready, ready.assigned)
    assert nothing == {} and again.job == ready.job


# ------------------------------------------------------------------------------------------------ the cluster


def test_the_cluster_is_the_new_category_without_the_false_alarms(world: World) -> None:
    pictures = np.concatenate([images(NEW, 40, seed=4), images("teal", 5, seed=4)])
    features = np.stack([sample.feature for sample in world.samples(pictures)])
    chosen = by_cluster(features, world.bundle().statistics())
    assert not chosen[40:].any() and chosen[:40].mean() > 0.7


@pytest.mark.parametrize("count", [1, 7])
def test_a_few_are_taken_as_they_are(world: World, count: int) -> None:
    features = np.stack([sample.feature for sample in world.samples(images(NEW, count))])
    assert by_cluster(features, world.bundle().statistics()).all()


def test_features_that_are_no_numbers_are_refused(world: World) -> None:
    features = np.full((10, 8), np.nan, np.float32)
    with pytest.raises(HeadError, match="NaN"):
        by_cluster(features, world.bundle().statistics())
