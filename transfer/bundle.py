"""The model bundle: one immutable directory that holds all a device needs of a model, and proof of where it is from.

    manifest.json           what the model is, with size and sha256 of every other file
    manifest.sig            "<public key> <signature>" (hex, Ed25519) over the bytes of manifest.json
    weights.safetensors     state dict, float32, convolutions OIHW
    model.tflite            the same network for inference             (students)
    statistics.safetensors  class statistics, see transfer.head        (students)
    holdout.safetensors     images and targets that judge a candidate  (optional)

The digest of a bundle is the sha256 of its manifest.json: it fixes every byte of every file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from transfer import signing
from transfer.blueprint import weight_shapes
from transfer.durable import sync_directory, sync_tree
from transfer.head import ClassStatistics, HeadError, from_arrays
from transfer.manifest import MAX_FILE_BYTES, MAX_FILES, BundleError, FileEntry, Manifest, Pair, decode_manifest

if TYPE_CHECKING:
    from nacl.signing import SigningKey

MAX_MANIFEST_BYTES = 2**20

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
WEIGHTS, MODEL, STATISTICS, HOLDOUT = (
    "weights.safetensors",
    "model.tflite",
    "statistics.safetensors",
    "holdout.safetensors",
)
__all__ = ["Bundle", "BundleError", "FileEntry", "Manifest", "Pair", "copy", "load", "pack", "save", "signer", "unpack"]

REQUIRED = {"teacher": (WEIGHTS,), "student": (WEIGHTS, MODEL, STATISTICS)}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. Every reading checks the hash again, so a file changed after `load` is not used either."""

    directory: Path
    manifest: Manifest
    digest: str

    @property
    def tflite_path(self) -> Path:
        return self.directory / MODEL

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises BundleError (missing, too_large, hash_mismatch)."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError("missing", f"the bundle {self.directory} has no {name}")
        data = _read(self.directory / name, entry.size_bytes)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError("hash_mismatch", f"{self.directory / name} is not the file that its manifest names")
        return data

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The state dict: exactly the names and shapes that the manifest's net asks for, all finite."""
        arrays = self._arrays(WEIGHTS)
        shapes = weight_shapes(self.manifest.net)
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise self._malformed(WEIGHTS, "names or shapes do not fit the network in the manifest")
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise self._malformed(WEIGHTS, f"{name} is not float32 and finite")
        return cast(dict[str, npt.NDArray[np.float32]], arrays)

    def statistics(self) -> ClassStatistics:
        """The class statistics, in the order of the manifest's labels."""
        try:
            statistics = from_arrays(self._arrays(STATISTICS), self.manifest.labels)
        except HeadError as error:
            raise self._malformed(STATISTICS, str(error)) from error
        if statistics.means.shape[1] != self.manifest.net.feature_width:
            raise self._malformed(STATISTICS, "the features are not as wide as the network's")
        if len(statistics.readout) and statistics.readout.shape[1] != self.manifest.net.pooled_width + 1:
            raise self._malformed(STATISTICS, "the readout is not as wide as the network's last layer")
        return statistics

    def holdout(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None:
        """Images uint8 [n, h, w, 3] and targets int64 [n] (indices into labels), or None where there are none."""
        if HOLDOUT not in self.manifest.files:
            return None
        arrays, size = self._arrays(HOLDOUT), self.manifest.input
        if set(arrays) != {"images", "targets"}:
            raise self._malformed(HOLDOUT, "expected exactly `images` and `targets`")
        images, targets = cast(npt.NDArray[np.uint8], arrays["images"]), cast(npt.NDArray[np.int64], arrays["targets"])
        if images.dtype != np.uint8 or images.shape[1:] != (size.height, size.width, 3):
            raise self._malformed(HOLDOUT, f"images are {images.dtype} {images.shape}")
        if targets.dtype != np.int64 or targets.shape != images.shape[:1]:
            raise self._malformed(HOLDOUT, f"targets are {targets.dtype} {targets.shape}")
        if ((targets < 0) | (targets >= len(self.manifest.labels))).any():
            raise self._malformed(HOLDOUT, "a target is none of the labels")
        return images, targets

    def _arrays(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        data = self.read(name)
        try:
            arrays: dict[str, npt.NDArray[np.generic]] = safetensors.numpy.load(data)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise self._malformed(name, f"not readable as safetensors: {error}") from error
        return arrays

    def _malformed(self, name: str, message: str) -> BundleError:
        return BundleError("malformed", f"{self.directory / name}: {message}")


def save(directory: Path, manifest: Manifest, files: Mapping[str, bytes], key: SigningKey | None) -> Manifest:
    """Write the bundle `directory`, all of it or nothing, durably, signed by `key`. Returns the manifest with `files`.

    Raises BundleError (exists, missing, malformed, too_large) and OSError (disk full).
    """
    for name, data in files.items():
        if len(data) > MAX_FILE_BYTES:
            raise BundleError("too_large", f"{name} has {len(data)} bytes, more than {MAX_FILE_BYTES}")
    entries = {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in sorted(files.items())}
    try:
        complete = msgspec.structs.replace(manifest, files=entries)
    except ValueError as error:
        raise BundleError("malformed", f"manifest of {directory}: {error}") from error
    _check_required(directory, complete)
    encoded = msgspec.json.format(msgspec.json.encode(complete), indent=1) + b"\n"
    decode_manifest(encoded)  # what we write, `load` must accept: msgspec checks types only when it decodes
    with _new_directory(directory) as temporary:
        _write({**files, MANIFEST: encoded}, temporary)
        if key is not None:
            line = f"{signing.public_key_hex(key)} {signing.sign(key, encoded)}\n"
            (temporary / SIGNATURE).write_text(line, encoding="ascii")
    return complete


def load(directory: Path, *, trusted: Collection[str] | None) -> Bundle:
    """Verify the bundle and every file of it. `trusted`: public keys (hex) of which one must have signed it; None
    skips the signature, for tools that read what they wrote themselves. Raises BundleError."""
    encoded = _read(directory / MANIFEST, MAX_MANIFEST_BYTES)
    if trusted is not None:
        _check_signature(directory, encoded, _read(directory / SIGNATURE, 1024), trusted)
    bundle = Bundle(directory, decode_manifest(encoded), hashlib.sha256(encoded).hexdigest())
    _check_required(directory, bundle.manifest)
    for name in bundle.manifest.files:
        bundle.read(name)
    return bundle


def signer(directory: Path) -> str:
    """The public key (hex) that the bundle says signed it, "" where it does not say: to be verified, not believed."""
    try:
        found = re.fullmatch(rb"([0-9a-f]{64}) [0-9a-f]{128}\n", _read(directory / SIGNATURE, 1024))
    except BundleError:
        return ""
    return found[1].decode() if found else ""


def pack(directory: Path) -> bytes:
    """The bundle as a plain tar whose bytes depend on nothing but its files. Raises BundleError."""
    from transfer import archive

    return archive.write(_members(load(directory, trusted=None)))


def unpack(data: bytes, directory: Path, *, trusted: Collection[str] | None) -> Bundle:
    """Make the bundle `directory` of what `pack` returned. Nothing is written before the signature and the manifest
    are verified, and `directory` appears only after every file was. Raises BundleError."""
    from transfer import archive

    try:
        members = archive.read(data, max_members=MAX_FILES + 2)
    except archive.ArchiveError as error:
        raise BundleError("malformed", f"the packed bundle for {directory}: {error}") from error
    encoded = members.get(MANIFEST, b"")
    if not encoded:
        raise BundleError("missing", f"the packed bundle for {directory} has no {MANIFEST}")
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise BundleError("too_large", f"the packed {MANIFEST} has {len(encoded)} bytes")
    if trusted is not None:
        _check_signature(directory, encoded, members.get(SIGNATURE, b""), trusted)
    unnamed = set(members) - set(decode_manifest(encoded).files) - {MANIFEST, SIGNATURE}
    if unnamed:
        raise BundleError("malformed", f"the packed bundle for {directory} has files its manifest lacks: {unnamed}")
    with _new_directory(directory) as temporary:
        _write(members, temporary)
        verified = load(temporary, trusted=trusted)
    return replace(verified, directory=directory)


def copy(source: Bundle, directory: Path) -> Bundle:
    """Make the bundle `directory` of another, with its signature. Raises BundleError (exists, hash_mismatch where the
    source is no longer what was loaded)."""
    with _new_directory(directory) as temporary:
        _write(_members(source), temporary)
    return replace(source, directory=directory)


def _members(bundle: Bundle) -> dict[str, bytes]:
    """All files of a bundle, by their names, each verified."""
    encoded = _read(bundle.directory / MANIFEST, MAX_MANIFEST_BYTES)
    if hashlib.sha256(encoded).hexdigest() != bundle.digest:
        raise BundleError("hash_mismatch", f"{bundle.directory / MANIFEST} has changed since it was verified")
    members = {MANIFEST: encoded} | {name: bundle.read(name) for name in bundle.manifest.files}
    if (bundle.directory / SIGNATURE).exists():
        members[SIGNATURE] = _read(bundle.directory / SIGNATURE, 1024)
    return members


def _write(members: Mapping[str, bytes], directory: Path) -> None:
    for name, content in members.items():
        (directory / name).write_bytes(content)


def _check_required(directory: Path, manifest: Manifest) -> None:
    for name in REQUIRED[manifest.kind]:
        if name not in manifest.files:
            raise BundleError("missing", f"the {manifest.kind} bundle {directory} has no {name}")


def _check_signature(directory: Path, encoded: bytes, line: bytes, trusted: Collection[str]) -> None:
    public, _, signature = line.decode("ascii", "replace").strip().partition(" ")
    if public not in trusted:
        raise BundleError(
            "untrusted", f"{directory} is signed by {public[:64] or 'nobody'!r}, which is not trusted here"
        )
    if signing.verify([public], encoded, signature) is None:
        raise BundleError("bad_signature", f"the signature of {directory / MANIFEST} is wrong: fetch the bundle again")


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BundleError("missing", f"{path} cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise BundleError("too_large", f"{path} has more than {max_bytes} bytes")
    return data


@contextmanager
def _new_directory(directory: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `directory`, durably, when the block ends well and vanishes when it does not."""
    if directory.exists():
        raise BundleError("exists", f"{directory} exists already; bundles are never changed")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        sync_tree(temporary)
        temporary.rename(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(directory.parent)
