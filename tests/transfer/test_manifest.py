from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.blueprint import parameters
from transfer.manifest import BundleError, FileEntry, Manifest, Pair, decode_manifest
from transfer.spec import InputSpec, resnet_cifar, vgg16

MANIFEST = Manifest(
    kind="student",
    name="digits",
    labels=("zero", "eins"),
    input=InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    net=resnet_cifar(8, 10),
    pairs=(Pair(0, 2, (0, 3, 5)),),
    files={"weights.safetensors": FileEntry("0" * 64, 17)},
)


def test_a_manifest_survives_json() -> None:
    assert decode_manifest(msgspec.json.encode(MANIFEST)) == MANIFEST


def changed(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(MANIFEST) | fields)


SMALL_IMAGES = InputSpec(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
ENTRY = {"sha256": "0" * 64, "size_bytes": 1}


@pytest.mark.parametrize(
    ("encoded", "code", "complaint"),
    [
        (b"", "malformed", "manifest.json"),
        (b"[1]", "malformed", "object"),
        (b"[" * 5000, "malformed", "manifest.json"),
        (b'{"schema":1,"kind":"\xff"}', "malformed", "manifest.json"),
        (changed(schema=2), "unknown_schema", "update"),
        (b'{"schema":2,"everything":"different"}', "unknown_schema", "schema 2"),
        (changed(schema="1"), "malformed", "schema"),
        (changed(kind="pupil"), "malformed", "kind"),
        (changed(extra=1), "malformed", "extra"),
        (changed(labels=[]), "malformed", "labels"),
        (changed(labels=["same", "same"]), "malformed", "different"),
        (changed(labels=["a", "bell\x07"]), "malformed", "printable"),
        (changed(labels=["a" * 201]), "malformed", "characters"),
        (changed(labels=[str(n) for n in range(11)]), "malformed", "only 10 logits"),
        (changed(net=vgg16(10, norm=False)), "malformed", "linear function of its feature"),
        (changed(net=vgg16(10, norm=False, hidden=()), input=SMALL_IMAGES), "malformed", "16 x 16 are too small"),
        (changed(net=msgspec.structs.replace(resnet_cifar(8, 10), cells=3)), "malformed", "no 3 x 3 equal cells"),
        (changed(kind="teacher", net=msgspec.structs.replace(resnet_cifar(8, 10), cells=2)), "malformed", "a teacher"),
        (changed(decision="coin"), "malformed", "decision"),
        (changed(teacher="abc"), "malformed", "sha256"),
        (changed(pairs=[{"group": 3, "teacher_block": 0, "channels": []}]), "malformed", "no such block"),
        (changed(pairs=[{"group": 0, "teacher_block": 0, "channels": [1, 1]}]), "malformed", "distinct"),
        (changed(pairs=[{"group": 0, "teacher_block": 0, "channels": [-1]}]), "malformed", "below"),
        (changed(files={"../escape": ENTRY}), "malformed", "not allowed"),
        (changed(files={"manifest.json": ENTRY}), "malformed", "not allowed"),
        (changed(files={".hidden": ENTRY}), "malformed", "not allowed"),
        (changed(files={"a\n": ENTRY}), "malformed", "not allowed"),
        (changed(files={str(n): ENTRY for n in range(17)}), "malformed", "more than 16"),
        (changed(files={"a": ENTRY | {"size_bytes": 2**31}}), "malformed", "out of range"),
        (changed(files={"a": ENTRY | {"sha256": "X" * 64}}), "malformed", "out of range"),
    ],
)
def test_manifests_from_outside_are_checked(encoded: bytes, code: str, complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint) as caught:
        decode_manifest(encoded)
    assert caught.value.code == code


def test_a_gaussian_decides_among_more_labels_than_logits() -> None:
    labels = tuple(str(n) for n in range(11))
    assert decode_manifest(changed(labels=labels, decision="gaussian")).labels == labels


def test_a_teacher_may_have_hidden_layers_and_be_as_large_as_vgg16() -> None:
    entry = FileEntry("0" * 64, 4 * parameters(vgg16(1000, norm=True)) + 10_000)
    made = changed(kind="teacher", net=vgg16(1000, norm=True), files={"weights.safetensors": entry})
    assert decode_manifest(made).net.details.hidden == (4096, 4096)


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["schema", "kind", "labels", "net", "x"]), inner),
).map(msgspec.json.encode))  # fmt: skip
@settings(deadline=None)
def test_nonsense_is_always_a_bundle_error(encoded: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(encoded)
