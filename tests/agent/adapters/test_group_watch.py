"""Groups of images that one model served in a row, none twice, and how unlikely known ones alone make them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_world import World, images, mixed

from agent.adapters.group_watch import GroupWatch
from agent.adapters.inference import Classifier, Verdict
from agent.core.facts import GroupView

SIZE = 60
KNOWN = ("amber", "teal", "plum")


@pytest.fixture
def classifier(world: World) -> Classifier:
    return world.classifier(1)


def verdicts(classifier: Classifier, label: str, count: int) -> list[Verdict]:
    if label == "known":
        pictures = mixed(KNOWN, count // 3 + 1, seed=5)[0]
        return classifier.classify(pictures[np.random.default_rng(0).permutation(len(pictures))[:count]])
    return classifier.classify(images(label, count, seed=6))


def watching(classifier: Classifier, size: int = SIZE) -> tuple[GroupWatch, list[GroupView]]:
    views: list[GroupView] = []
    return GroupWatch(size, lambda: classifier, views.append), views


def test_known_images_are_likely_and_new_ones_among_them_are_not(classifier: Classifier) -> None:
    watch, views = watching(classifier)
    for verdict in verdicts(classifier, "known", SIZE):
        watch.take(verdict)
    mixture = [*verdicts(classifier, "lime", SIZE // 5), *verdicts(classifier, "known", SIZE - SIZE // 5)]
    for verdict in mixture:
        watch.take(verdict)
    first, second = views
    assert first.chance > 0.01 and second.chance < 0.001
    assert (second.images, second.generation) == (SIZE, 1)
    assert second.novel == sum(verdict.kept for verdict in mixture) >= SIZE // 5


def test_no_image_is_in_two_groups(classifier: Classifier) -> None:
    watch, views = watching(classifier)
    for verdict in verdicts(classifier, "known", 3 * SIZE - 1):
        watch.take(verdict)
    assert len(views) == 2


def test_another_model_begins_another_group(classifier: Classifier) -> None:
    watch, views = watching(classifier)
    for verdict in verdicts(classifier, "lime", SIZE - 1):
        watch.take(replace(verdict, generation=0))
    for verdict in verdicts(classifier, "known", SIZE):
        watch.take(verdict)
    assert [view.generation for view in views] == [1] and views[0].chance > 0.01


def test_what_an_exchanged_model_said_is_not_measured_by_the_next_one_s_scale(classifier: Classifier) -> None:
    watch, views = watching(classifier)
    for verdict in verdicts(classifier, "known", SIZE):
        watch.take(replace(verdict, generation=0))
    assert views == []


def test_a_size_of_nothing_looks_at_nothing(classifier: Classifier) -> None:
    watch, views = watching(classifier, 0)
    for verdict in verdicts(classifier, "lime", SIZE):
        watch.take(verdict)
    assert views == []
