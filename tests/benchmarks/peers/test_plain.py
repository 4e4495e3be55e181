from __future__ import annotations

from benchmarks.peers.plain import plain
from cloud_teacher.distil import Recipe
from cloud_teacher.train import Schedule


def test_it_owes_the_teacher_nothing_but_its_shape() -> None:
    recipe = Recipe(("a", "b"), Schedule(epochs=3), depth=2, most_parameters=9_000)
    made = plain(recipe)
    assert (made.inherit, made.taught) == (False, "labels")
    assert (made.depth, made.most_parameters, made.schedule) == (recipe.depth, recipe.most_parameters, recipe.schedule)
