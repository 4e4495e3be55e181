from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prunable_networks import PRUNABLE, without_hidden
from tiny_networks import SMALL

from transfer.blueprint import blueprint
from transfer.coupling import coupling
from transfer.limit import Limit
from transfer.operations import INPUT, Conv
from transfer.plan import last_blocks, planned, shrunk_spec, whole
from transfer.spec import BlockSpec, NetSpec, resnet_cifar, wide_resnet
from transfer.trimming import FEWEST_CHANNELS, Importance, trim, trimmed

RGB = {INPUT: (0, 1, 2)}
IMAGES = st.sampled_from([None, (32, 32), (16, 24)])


def random_importance(spec: NetSpec, seed: int) -> dict[str, np.ndarray]:
    rng, coupled = np.random.default_rng(seed), coupling(blueprint(spec))
    spaces = {coupled.space[one.name] for one in blueprint(spec).operations if isinstance(one, Conv)}
    return {space: rng.exponential(size=coupled.widths[space]) for space in sorted(spaces)}


def full(spec: NetSpec, depth: int, image: tuple[int, int] | None) -> int:
    return Limit(0, image).cost(shrunk_spec(spec, whole(spec, last_blocks(spec, depth))))


@settings(deadline=None, max_examples=40)
@given(PRUNABLE, st.integers(1, 2), st.floats(0.05, 1.0), IMAGES, st.integers(0, 99))
def test_the_limit_is_kept(spec: NetSpec, depth: int, share: float, image: tuple[int, int] | None, seed: int) -> None:
    importance = random_importance(spec, seed)
    limit = Limit(int(share * full(spec, depth, image)), image)
    try:
        plan = trimmed(spec, importance, depth, limit)
    except ValueError as error:
        assert "the smallest has" in str(error)
        return
    small = shrunk_spec(spec, plan)
    assert limit.allows(small)
    assert [len(blocks) for blocks in small.groups] == [min(depth, len(blocks)) for blocks in spec.groups]


@settings(deadline=None, max_examples=15)
@given(PRUNABLE, st.floats(0.2, 0.99), IMAGES, st.integers(0, 99))
def test_not_more_is_taken_than_must_be(spec: NetSpec, share: float, image: tuple[int, int] | None, seed: int) -> None:
    """Before its last step the network was too large, and the last step took one coupled set of channels."""
    # A learned shortcut out of a stem of another width goes altogether where both happen to become equally wide.
    assume(spec.family != "imagenet" or spec.stem_width == spec.groups[0][0].out)
    spec = without_hidden(spec)
    importance, drawn = random_importance(spec, seed), blueprint(spec)
    most, high = int(share * Limit(0, image).cost(spec)), Limit(0, image).cost(spec)
    try:
        kept = trim(drawn, importance, Limit(most, image))
    except ValueError:
        assume(False)
    low = most  # below the least limit under which one step less is taken
    while high - low > 1:
        middle = (low + high) // 2
        if trim(drawn, importance, Limit(middle, image)) == kept:
            low = middle
        else:
            high = middle
    before = trim(drawn, importance, Limit(high, image))
    assert high == Limit(0, image).cost(shrunk_spec(spec, planned(spec, last_blocks(spec, 64), before | RGB))) > most
    taken = {space: set(before[space]) - set(kept[space]) for space in kept if before[space] != kept[space]}
    assert all(len(some) == 1 for some in taken.values())
    linked = {(link.source, link.target) for link in coupling(drawn).links}
    assert len([pair for pair in linked if set(pair) <= set(taken)]) == len(taken) - 1  # one chain of feeding channels


def test_removing_nothing_is_the_teacher() -> None:
    for spec in (SMALL["wide"], SMALL["imagenet"], SMALL["vgg, normed"]):
        for image in (None, (32, 32)):
            plan = trimmed(spec, random_importance(spec, 0), 64, Limit(full(spec, 64, image), image))
            assert plan == whole(spec, last_blocks(spec, 64))
            fewer = trimmed(spec, random_importance(spec, 0), 64, Limit(full(spec, 64, image) - 1, image))
            assert fewer != plan


@pytest.mark.parametrize("family", sorted(SMALL))
def test_channels_of_no_importance_go_first(family: str) -> None:
    spec = without_hidden(SMALL[family])
    importance = random_importance(spec, 1)
    widest = max(importance, key=lambda space: len(importance[space]))
    importance[widest][0] = importance[widest][-1] = 0.0  # in a linked space no shortcut feeds the outermost channels
    kept = trim(blueprint(spec), importance, Limit(Limit(0).cost(spec) - 1))
    gone = {space: set(range(len(importance[space]))) - set(some) for space, some in kept.items()}
    assert gone.pop(widest) < {0, len(importance[widest]) - 1} and not any(gone.values())


def test_what_costs_more_goes_before_what_is_as_important() -> None:
    spec = resnet_cifar(8, 10)
    importance: Importance = {space: np.ones_like(values) for space, values in random_importance(spec, 0).items()}
    by_parameters = shrunk_spec(spec, trimmed(spec, importance, 1, Limit(40_000)))
    by_macs = shrunk_spec(spec, trimmed(spec, importance, 1, Limit(6_000_000, (32, 32))))
    early, late = by_parameters.groups[0][0], by_parameters.groups[2][0]
    assert early.mid == 16 and late.mid < 64
    assert by_macs.groups[0][0].out < 16 and by_macs.groups[2][0] == BlockSpec(64, 64)


@settings(deadline=None, max_examples=30)
@given(
    st.builds(
        lambda family, one, two, three: (
            resnet_cifar(14, 4, widths=(one, one + two, one + two + three))
            if family == "resnet"
            else wide_resnet(16, 1, 4, widths=(16 + one, 16 + one + two, 16 + one + two + three))
        ),
        st.sampled_from(["resnet", "wide"]),
        st.integers(5, 12),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    st.integers(1, 2),
    st.floats(0.4, 1.0),
    st.integers(0, 99),
)
def test_the_students_shortcuts_lead_where_the_teachers_do(spec: NetSpec, depth: int, share: float, seed: int) -> None:
    try:
        plan = trimmed(spec, random_importance(spec, seed), depth, Limit(int(share * full(spec, depth, None))))
    except ValueError:
        assume(False)
    streams = ([plan.stem] if plan.stem else []) + list(plan.out)
    widths = ([spec.stem_width] if plan.stem else []) + [blocks[-1].out for blocks in spec.groups]
    for before, after, narrow, broad in zip(streams, streams[1:], widths, widths[1:], strict=False):
        padding, shift = (len(after) - len(before)) // 2, (broad - narrow) // 2
        assert [channel + shift for channel in before] == list(after[padding : padding + len(before)])


def test_no_space_becomes_narrower_than_four_channels() -> None:
    spec = SMALL["imagenet"]
    with pytest.raises(ValueError, match=r"only 10 parameters; the smallest has [\d,]+") as refused:
        trimmed(spec, random_importance(spec, 2), 1, Limit(10))
    smallest = int(str(refused.value).split()[-1].replace(",", ""))
    plan = trimmed(spec, random_importance(spec, 2), 1, Limit(smallest))
    assert {len(some) for some in (*plan.out, *(inside for mids in plan.mid for inside in mids))} == {FEWEST_CHANNELS}
