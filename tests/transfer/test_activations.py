from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.activations import Activations, ActivationsError, decode, encode, most_bytes, wanted
from transfer.manifest import Pair
from transfer.wire import ActivationRequest, BlockWanted

SEEDS = st.integers(0, 9)


def made(n: int = 3, v: int = 2, c: int = 4, groups: tuple[int, ...] = (0, 2), seed: int = 0) -> Activations:
    random = np.random.default_rng(seed)
    return Activations(
        sample_ids=tuple(f"{index:064x}" for index in range(n)),
        labels=tuple(f"label-{index}" for index in range(c)),
        teacher="t" * 64,
        logits=random.normal(0, 5, (n, v, c)).astype(np.float32),
        maps={g: random.exponential(1, (n, v, 5, 2, 2)).astype(np.float32) for g in groups},
        residuals={g: random.exponential(1, (n, v)).astype(np.float32) for g in groups},
    )


def asked(activations: Activations, **changes: object) -> ActivationRequest:
    fields: dict[str, object] = {
        "request_id": "r",
        "reply_topic": "a/teacher/rsp",
        "expires_utc": 1.0,
        "teacher": activations.teacher,
        "sample_ids": activations.sample_ids,
        "images": tuple(b"x" for _ in activations.sample_ids),
        "views": tuple(range(activations.logits.shape[1])),
        "blocks": tuple(BlockWanted(g, 1, tuple(range(5))) for g in activations.maps),
    }
    return ActivationRequest(**(fields | changes))  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.sets(st.integers(0, 7), max_size=3), st.integers(0, 9)
)
def test_what_is_encoded_is_decoded_but_for_rounding(n: int, v: int, c: int, groups: set[int], seed: int) -> None:
    before = made(n, v, c, tuple(groups), seed)
    after = decode(encode(before))
    assert (after.sample_ids, after.labels, after.teacher) == (before.sample_ids, before.labels, before.teacher)
    assert np.allclose(after.logits, before.logits, rtol=1e-3, atol=1e-3)
    assert set(after.maps) == groups
    for g in groups:
        energy = np.square(before.maps[g]).sum(axis=(2, 3, 4)) + before.residuals[g]
        unit = before.maps[g] / np.sqrt(energy)[:, :, None, None, None]
        assert (np.abs(after.maps[g] - unit) <= unit.max(axis=(2, 3, 4), keepdims=True) / 29).all()
        assert np.allclose(after.residuals[g], before.residuals[g] / energy, atol=0.06)
    after.check_answers(asked(before))
    assert len(encode(before)) <= most_bytes(asked(before))


def test_the_same_answer_is_the_same_bytes_in_another_process() -> None:
    """Or a device that resumes in the middle of an answer would have to start again."""
    code = (
        "import hashlib, numpy as np; from transfer.activations import *;"
        "print(hashlib.sha256(encode(Activations(('a' * 64, 'b' * 64), ('x', 'y'), 't', np.ones((2, 1, 2), np.float32),"
        "{0: np.ones((2, 1, 3, 4, 4), np.float32)}, {0: np.ones((2, 1), np.float32)}))).hexdigest())"
    )
    seen = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(4)}
    assert len(seen) == 1


def test_a_silent_map_stays_silent() -> None:
    activations = made(1, 1, 2, (0,))
    activations.maps[0][:] = 0
    activations.residuals[0][:] = 0
    assert not decode(encode(activations)).maps[0].any()


def test_the_loss_sees_no_difference_between_a_map_and_its_multiple() -> None:
    quiet, loud = made(groups=(0,)), made(groups=(0,))
    loud.maps[0][:] *= 1000
    loud.residuals[0][:] *= 1000**2
    np.testing.assert_allclose(decode(encode(loud)).maps[0], decode(encode(quiet)).maps[0], atol=1e-6)


def test_two_sides_of_a_map_may_differ_and_its_values_be_odd_in_number() -> None:
    activations = made(2, 2, 3, (1,))
    activations.maps[1] = activations.maps[1][:, :, :3, :1, :1].repeat(3, axis=4)
    assert decode(encode(activations)).maps[1].shape == (2, 2, 3, 1, 3)


def test_logits_beyond_half_precision_are_held_at_its_end() -> None:
    activations = made(1, 1, 2, ())
    activations.logits[:] = 1e6
    assert np.isfinite(decode(encode(activations)).logits).all()


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ActivationsError):
        decode(data)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(encode(made(1, 1, 2, (0,))))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(whole[: data.draw(st.integers(at, len(whole)))]))
    except ActivationsError:
        return
    assert np.isfinite(decoded.logits).all() and all(np.isfinite(maps).all() for maps in decoded.maps.values())
    assert all((residual >= 0).all() for residual in decoded.residuals.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": '["x", "x"]'}, "one twice"),
        ({"labels": '["x"]'}, "logits is"),
        ({"labels": "[]"}, "0 labels"),
        ({"labels": "5"}, "does not say"),
        ({"labels": "[" * 5000}, "does not say"),
        ({"maps": "not json"}, "does not say"),
        ({"maps": '{"a": [5, 2, 2]}'}, "does not say"),
        ({"maps": "{}"}, "the answer holds"),
        ({"maps": '{"0": [5, 2, 2], "1": [1, 1, 1]}'}, "the answer holds"),
        ({"maps": '{"0": [5, 2, 3]}'}, "g0 is"),
        ({"maps": '{"0": [0, 2, 2]}'}, "has maps of"),
        ({"maps": '{"0": [99999999, 99999999, 99999999]}'}, "has maps of"),
        ({"maps": json.dumps({group: [1, 1, 1] for group in range(9)})}, "has maps of"),
        ({"teacher": None}, "does not say|safetensors"),
    ],
)
def test_metadata_that_does_not_fit_is_named(change: dict[str, object], says: str) -> None:
    data = encode(made(2, 1, 2, (0,)))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= change
    changed = json.dumps(header).encode()
    with pytest.raises(ActivationsError, match=says):
        decode(len(changed).to_bytes(8, "little") + changed + data[8 + length :])


def test_a_network_that_gives_no_numbers_is_not_learned_from() -> None:
    activations = made(1, 1, 2, (0,))
    activations.logits[0, 0, 1] = np.nan
    with pytest.raises(ActivationsError, match="logits has values that are not finite"):
        decode(encode(activations))


@pytest.mark.parametrize("range_", [(-1.5, 0.1), (0, 2), (0, -0.1), (np.inf, 0), (0, np.nan)])
def test_ranges_that_no_map_has_are_refused(range_: tuple[float, float]) -> None:
    data = encode(made(1, 1, 2, (0,)))
    arrays = safetensors.numpy.load(data)
    arrays["g0_range"][:] = range_
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    with pytest.raises(ActivationsError, match=r"g0_range (is not of maps of norm one|has values)"):
        decode(safetensors.numpy.save(arrays, metadata))


@pytest.mark.parametrize("name", ["sample_ids", "logits", "g0", "g0_range"])
def test_arrays_of_other_types_and_shapes_are_named(name: str) -> None:
    data = encode(made(1, 1, 2, (0,)))
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    arrays = safetensors.numpy.load(data)
    for other in (arrays[name].astype(np.float64), arrays[name][..., None], np.array(1, arrays[name].dtype)):
        with pytest.raises(ActivationsError, match=name if other.ndim else "expected"):
            decode(safetensors.numpy.save(arrays | {name: other}, metadata))


def test_an_answer_takes_little_more_than_half_a_byte_a_value() -> None:
    """WRN-28-10 as a student of 2 M parameters asks it, 32 images in two views: about 2.5 kB an image, all included."""
    widths, random = (84, 169, 337), np.random.default_rng(0)
    activations = Activations(
        sample_ids=tuple(hashlib.sha256(bytes([n])).hexdigest() for n in range(32)),
        labels=tuple(f"label-{index}" for index in range(10)),
        teacher="t" * 64,
        logits=np.zeros((32, 2, 10), np.float32),
        maps={g: random.exponential(1, (32, 2, width, 2, 2)).astype(np.float32) for g, width in enumerate(widths)},
        residuals={g: np.ones((32, 2), np.float32) for g in range(3)},
    )
    values = 2 * sum(widths) * 4
    assert 32 * values / 2 < len(encode(activations)) < 32 * (values / 2 + 130)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sample_ids": ("0" * 64,) * 3}, "other samples"),
        ({"teacher": "u" * 64}, "of teacher"),
        ({"views": (0,)}, "views"),
        ({"blocks": ()}, "block maps"),
        ({"blocks": (BlockWanted(0, 1, (1,)), BlockWanted(2, 1, (1,)))}, "block maps"),
        ({"pool": 1}, "asked for 1"),
    ],
)
def test_an_answer_to_another_question_is_noticed(changes: dict[str, object], says: str) -> None:
    activations = made()
    with pytest.raises(ActivationsError, match=says):
        activations.check_answers(asked(activations, **changes))


def test_a_students_pairs_are_what_it_asks_for() -> None:
    assert wanted([Pair(0, 2, (3, 1))]) == (BlockWanted(0, 2, (3, 1)),)


def test_decoding_needs_no_torch() -> None:
    code = "import sys, transfer.activations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
