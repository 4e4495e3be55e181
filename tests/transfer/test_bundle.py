from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from transfer import archive, signing
from transfer.bundle import (
    HOLDOUT,
    MODEL,
    STATISTICS,
    WEIGHTS,
    Bundle,
    BundleError,
    Manifest,
    copy,
    load,
    pack,
    save,
    unpack,
)
from transfer.graph import network_graph
from transfer.head import fit
from transfer.spec import InputSpec, NetSpec, resnet_cifar
from transfer.tflite import write

NET = resnet_cifar(8, 3, widths=(4, 6, 8))
MANIFEST = Manifest(
    kind="student",
    name="three",
    labels=("a", "b", "c"),
    input=InputSpec(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    net=NET,
)


def tensors(**arrays: np.ndarray) -> bytes:
    return bytes(safetensors.numpy.save(arrays))


@pytest.fixture(scope="module")
def files(random_weights: Callable[[NetSpec, int], dict[str, np.ndarray]]) -> dict[str, bytes]:
    weights, rng = random_weights(NET, 0), np.random.default_rng(0)
    statistics = fit(rng.uniform(0, 2, (30, 8)).astype(np.float32), np.arange(30) % 3, MANIFEST.labels)
    return {
        WEIGHTS: tensors(**weights),
        MODEL: write(network_graph(NET, weights, 16, 16)),
        STATISTICS: tensors(**statistics.to_arrays()),
        HOLDOUT: tensors(images=rng.integers(0, 256, (5, 16, 16, 3), np.uint8), targets=np.arange(5) % 3),
    }


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return signing.generate(tmp_path_factory.mktemp("key") / "key")


def refused(code: str, action: Callable[[], object]) -> None:
    with pytest.raises(BundleError) as caught:
        action()
    assert caught.value.code == code, caught.value


def test_a_bundle_is_saved_signed_and_read(tmp_path: Path, files: dict[str, bytes], key: Any) -> None:
    manifest = save(tmp_path / "bundle", MANIFEST, files, key)
    bundle = load(tmp_path / "bundle", trusted=[signing.public_key_hex(key)])
    assert bundle.manifest == manifest
    assert sorted(manifest.files) == sorted(files)
    assert {name: bundle.read(name) for name in files} == files
    assert bundle.tflite_path.read_bytes() == files[MODEL]
    assert set(bundle.weights()) >= {"conv1.weight", "linear.bias"}
    assert bundle.statistics().labels == MANIFEST.labels
    holdout = bundle.holdout()
    assert holdout is not None and holdout[0].shape == (5, 16, 16, 3) and holdout[1].tolist() == [0, 1, 2, 0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o755


def test_the_digest_stands_for_every_byte(tmp_path: Path, files: dict[str, bytes], key: Any) -> None:
    def digest(name: str, content: dict[str, bytes]) -> str:
        save(tmp_path / name, MANIFEST, content, key)
        return load(tmp_path / name, trusted=None).digest

    same, again = digest("one", files), digest("two", dict(reversed(files.items())))
    assert same == again
    assert digest("three", files | {MODEL: files[MODEL] + b"\0"}) != same


def test_a_bundle_is_never_changed(tmp_path: Path, files: dict[str, bytes]) -> None:
    save(tmp_path / "bundle", MANIFEST, files, None)
    refused("exists", lambda: save(tmp_path / "bundle", MANIFEST, files, None))


def test_a_bundle_needs_its_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name in (WEIGHTS, MODEL, STATISTICS):
        incomplete = {other: data for other, data in files.items() if other != name}
        refused("missing", lambda incomplete=incomplete: save(tmp_path / "b", MANIFEST, incomplete, None))
    teacher = msgspec.structs.replace(MANIFEST, kind="teacher")
    save(tmp_path / "teacher", teacher, {WEIGHTS: files[WEIGHTS]}, None)
    assert load(tmp_path / "teacher", trusted=None).holdout() is None
    refused("missing", load(tmp_path / "teacher", trusted=None).statistics)
    refused("malformed", lambda: save(tmp_path / "b", MANIFEST, files | {"../x": b""}, None))
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_a_manifest_that_could_not_be_loaded_is_not_saved(tmp_path: Path, files: dict[str, bytes]) -> None:
    wrong: Any = "pupil"
    refused("malformed", lambda: save(tmp_path / "b", msgspec.structs.replace(MANIFEST, decision=wrong), files, None))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [WEIGHTS, MODEL, STATISTICS, HOLDOUT])
def test_every_file_is_verified(tmp_path: Path, files: dict[str, bytes], name: str) -> None:
    directory = tmp_path / "bundle"
    save(directory, MANIFEST, files, None)
    bundle, path = load(directory, trusted=None), directory / name
    path.write_bytes(files[name][:-1] + bytes([files[name][-1] ^ 1]))
    refused("hash_mismatch", lambda: load(directory, trusted=None))
    refused("hash_mismatch", lambda: bundle.read(name))
    path.write_bytes(files[name] + b"\0")
    refused("too_large", lambda: load(directory, trusted=None))
    path.write_bytes(files[name][:-1])
    refused("hash_mismatch", lambda: load(directory, trusted=None))
    path.unlink()
    refused("missing", lambda: load(directory, trusted=None))
    (tmp_path / "elsewhere").write_bytes(files[name])
    path.symlink_to(tmp_path / "elsewhere")
    refused("missing", lambda: load(directory, trusted=None))


def test_signatures(tmp_path: Path, files: dict[str, bytes], key: Any) -> None:
    directory, other = tmp_path / "bundle", signing.generate(tmp_path / "other")
    trusted = [signing.public_key_hex(key)]
    save(directory, MANIFEST, files, key)
    refused("untrusted", lambda: load(directory, trusted=[signing.public_key_hex(other)]))
    refused("untrusted", lambda: load(directory, trusted=[]))
    manifest = (directory / "manifest.json").read_bytes()
    (directory / "manifest.json").write_bytes(manifest.replace(b"three", b"threE"))
    refused("bad_signature", lambda: load(directory, trusted=trusted))
    (directory / "manifest.json").write_bytes(manifest)
    forged = f"{signing.public_key_hex(key)} {signing.sign(other, manifest)}\n"
    (directory / "manifest.sig").write_text(forged)
    refused("bad_signature", lambda: load(directory, trusted=trusted))
    (directory / "manifest.sig").write_bytes(b"\xff\x00")
    refused("untrusted", lambda: load(directory, trusted=trusted))
    (directory / "manifest.sig").unlink()
    refused("missing", lambda: load(directory, trusted=trusted))
    assert load(directory, trusted=None).manifest.name == "three"


def test_a_huge_manifest_is_not_read(tmp_path: Path, files: dict[str, bytes]) -> None:
    save(tmp_path / "bundle", MANIFEST, files, None)
    os.truncate(tmp_path / "bundle" / "manifest.json", 2**40)
    refused("too_large", lambda: load(tmp_path / "bundle", trusted=None))


def replaced(tmp_path: Path, files: dict[str, bytes], name: str, content: bytes) -> Bundle:
    save(tmp_path / "bundle", MANIFEST, files | {name: content}, None)
    return load(tmp_path / "bundle", trusted=None)


@pytest.mark.parametrize("damage", ["shape", "name", "nan", "dtype", "garbage"])
def test_weights_must_fit_the_network(tmp_path: Path, files: dict[str, bytes], damage: str) -> None:
    arrays = safetensors.numpy.load(files[WEIGHTS])
    if damage == "shape":
        arrays["linear.bias"] = np.zeros(4, np.float32)
    elif damage == "name":
        arrays["surplus"] = np.zeros(4, np.float32)
    elif damage == "nan":
        arrays["linear.bias"][1] = np.nan
    elif damage == "dtype":
        arrays["linear.bias"] = np.zeros(3, np.float64)
    content = b"garbage" if damage == "garbage" else tensors(**arrays)
    refused("malformed", replaced(tmp_path, files, WEIGHTS, content).weights)


@pytest.mark.parametrize("labels", [2, 4])
def test_statistics_must_fit_the_labels(tmp_path: Path, files: dict[str, bytes], labels: int) -> None:
    names = tuple(str(n) for n in range(labels))
    features = np.random.default_rng(0).uniform(0, 2, (40, 8)).astype(np.float32)
    arrays: Any = fit(features, np.arange(40) % labels, names).to_arrays()
    refused("malformed", replaced(tmp_path, files, STATISTICS, tensors(**arrays)).statistics)


@pytest.mark.parametrize("width", [7, 8])
def test_a_readout_must_take_what_the_last_layer_takes(tmp_path: Path, files: dict[str, bytes], width: int) -> None:
    arrays = safetensors.numpy.load(files[STATISTICS])
    arrays["readout"] = np.ones((4, width + 1), np.float32)
    told = replaced(tmp_path, files, STATISTICS, tensors(**arrays))
    if width == 8:
        assert told.statistics().readout.shape == (4, 9)
    else:
        refused("malformed", told.statistics)


def test_statistics_must_fit_the_features(tmp_path: Path, files: dict[str, bytes]) -> None:
    features = np.random.default_rng(0).uniform(0, 2, (40, 7)).astype(np.float32)
    arrays: Any = fit(features, np.arange(40) % 3, MANIFEST.labels).to_arrays()
    refused("malformed", replaced(tmp_path, files, STATISTICS, tensors(**arrays)).statistics)


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((2, 16, 16, 3), np.uint8)},
        {"images": np.zeros((2, 16, 15, 3), np.uint8), "targets": np.zeros(2, np.int64)},
        {"images": np.zeros((2, 16, 16, 3), np.float32), "targets": np.zeros(2, np.int64)},
        {"images": np.zeros((2, 16, 16, 3), np.uint8), "targets": np.zeros(3, np.int64)},
        {"images": np.zeros((2, 16, 16, 3), np.uint8), "targets": np.zeros(2, np.int32)},
        {"images": np.zeros((2, 16, 16, 3), np.uint8), "targets": np.array([0, 3])},
        {"images": np.zeros((2, 16, 16, 3), np.uint8), "targets": np.array([0, -1])},
    ],
)
def test_the_holdout_must_fit_the_manifest(
    tmp_path: Path, files: dict[str, bytes], arrays: dict[str, np.ndarray]
) -> None:
    refused("malformed", replaced(tmp_path, files, HOLDOUT, tensors(**arrays)).holdout)


def test_a_bundle_travels(tmp_path: Path, files: dict[str, bytes], key: Any) -> None:
    save(tmp_path / "here", MANIFEST, files, key)
    data = pack(tmp_path / "here")
    assert data == pack(tmp_path / "here")
    bundle = unpack(data, tmp_path / "far" / "there", trusted=[signing.public_key_hex(key)])
    assert bundle.directory == tmp_path / "far" / "there"
    assert bundle.digest == load(tmp_path / "here", trusted=None).digest
    assert pack(bundle.directory) == data
    refused("exists", lambda: unpack(data, tmp_path / "here", trusted=None))


def test_what_is_not_trusted_leaves_nothing_behind(tmp_path: Path, files: dict[str, bytes], key: Any) -> None:
    save(tmp_path / "here", MANIFEST, files, key)
    trusted = [signing.public_key_hex(key)]
    members = archive.read(pack(tmp_path / "here"), max_members=10)
    there = tmp_path / "away" / "there"
    attempts = {
        "malformed": [b"garbage", archive.write(members | {"surplus": b""})],
        "missing": [
            archive.write({name: data for name, data in members.items() if name != "manifest.json"}),
            archive.write({name: data for name, data in members.items() if name != MODEL}),
        ],
        "untrusted": [archive.write({name: data for name, data in members.items() if name != "manifest.sig"})],
        "bad_signature": [archive.write(members | {"manifest.json": members["manifest.json"] + b" "})],
        "hash_mismatch": [archive.write(members | {MODEL: members[MODEL][:-1] + b"?"})],
    }
    for code, packed in attempts.items():
        for data in packed:
            refused(code, lambda data=data: unpack(data, there, trusted=trusted))
            assert not there.parent.exists() or not list(there.parent.iterdir())


def test_a_copy_is_the_same_bundle(tmp_path: Path, files: dict[str, bytes], key: Any) -> None:
    trusted = [signing.public_key_hex(key)]
    save(tmp_path / "one", MANIFEST, files, key)
    source = load(tmp_path / "one", trusted=trusted)
    copied = copy(source, tmp_path / "two")
    assert copied == load(tmp_path / "two", trusted=trusted) and copied.digest == source.digest
    assert copied.directory == tmp_path / "two" and pack(tmp_path / "two") == pack(tmp_path / "one")
    refused("exists", lambda: copy(source, tmp_path / "two"))
    save(tmp_path / "unsigned", MANIFEST, files, None)
    unsigned = load(tmp_path / "unsigned", trusted=None)
    assert copy(unsigned, tmp_path / "copy of unsigned").manifest == unsigned.manifest


@pytest.mark.parametrize("name", [MODEL, "manifest.json"])
def test_a_source_that_has_changed_is_not_copied(tmp_path: Path, files: dict[str, bytes], key: Any, name: str) -> None:
    save(tmp_path / "one", MANIFEST, files, key)
    source = load(tmp_path / "one", trusted=None)
    path = tmp_path / "one" / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    refused("hash_mismatch", lambda: copy(source, tmp_path / "two"))
    assert [each.name for each in tmp_path.iterdir()] == ["one"]
