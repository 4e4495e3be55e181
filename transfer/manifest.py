"""manifest.json of a bundle: what the model is, and the size and sha256 of each of its files."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from transfer.blueprint import blueprint, tensor_shapes
from transfer.spec import MAX_CLASSES, MAX_WIDTH, InputSpec, NetSpec, VggSpec

SCHEMA = 1
# VGG-16's weights, the largest teacher's, are 553 MB; `transfer.spec.MAX_PARAMETERS` of float32 are a little less.
MAX_FILE_BYTES = 2**30 + 2**20
MAX_FILES = 16
MAX_LABEL_CHARACTERS = 200

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleError(ValueError):
    """A bundle that must not be used.

    `code`: missing | malformed | unknown_schema | hash_mismatch | bad_signature | untrusted | too_large | exists.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    size_bytes: int


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The block of the teacher that a student's block learns from, in the same group (the paper, eq. 4).

    Channel i of the student's block answers to channel channels[i] of the teacher's.
    """

    group: int
    teacher_block: int
    channels: tuple[int, ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the model is. `decision`: the class is the largest of the first len(labels) logits, the densest Gaussian of
    the class statistics, or both (`transfer.head.decide`). `dormant`: categories that it was taught about by a teacher
    that knows them, though it was shown none and does not decide for them: their logits follow those of the labels.
    `flip`: its views may be mirrored. `teacher`, `parent`: digests, or ""."""

    schema: int = SCHEMA
    kind: Literal["student", "teacher"]
    name: str
    labels: tuple[str, ...]
    dormant: tuple[str, ...] = ()
    input: InputSpec
    net: NetSpec
    decision: Literal["logits", "gaussian", "fused"] = "logits"
    flip: bool = True
    pairs: tuple[Pair, ...] = ()
    teacher: str = ""
    parent: str = ""
    made_by: str = ""
    files: dict[str, FileEntry] = {}

    def __post_init__(self) -> None:
        _check_labels(self)
        tensor_shapes(blueprint(self.net), self.input.height, self.input.width)  # or the images are too small
        if self.kind == "student" and isinstance(self.net.vgg, VggSpec) and self.net.vgg.hidden:
            raise ValueError("a student's logits must be a linear function of its feature: leave out the hidden layers")
        if self.kind == "teacher" and self.net.cells_a_side:
            raise ValueError("a teacher's feature is the mean over its last map alone: leave out `cells`")
        for pair in self.pairs:
            if not 0 <= pair.group < len(self.net.groups) or pair.teacher_block < 0:
                raise ValueError(f"pair of group {pair.group}, block {pair.teacher_block}: no such block")
            if len(set(pair.channels)) != len(pair.channels) or not all(0 <= c < MAX_WIDTH for c in pair.channels):
                raise ValueError(f"pair of group {pair.group}: channels must be distinct and below {MAX_WIDTH}")
        for what, digest in (("teacher", self.teacher), ("parent", self.parent)):
            if digest and not _SHA256.fullmatch(digest):
                raise ValueError(f"{what} is not a sha256: {digest[:80]!r}")
        if len(self.files) > MAX_FILES:
            raise ValueError(f"{len(self.files)} files, more than {MAX_FILES}")
        for name, entry in self.files.items():
            if not _FILE_NAME.fullmatch(name) or name in ("manifest.json", "manifest.sig"):
                raise ValueError(f"file name {name[:80]!r} is not allowed")
            if not _SHA256.fullmatch(entry.sha256) or not 0 <= entry.size_bytes <= MAX_FILE_BYTES:
                raise ValueError(f"{name}: sha256 or size is out of range (at most {MAX_FILE_BYTES} bytes)")


def _check_labels(manifest: Manifest) -> None:
    labels, every = manifest.labels, (*manifest.labels, *manifest.dormant)
    if not labels or len(every) > MAX_CLASSES or len(set(every)) != len(every):
        raise ValueError(f"{len(every)} labels, dormant ones included: there must be 1 to {MAX_CLASSES}, all different")
    for text in (manifest.name, *every):
        if not 1 <= len(text) <= MAX_LABEL_CHARACTERS or not text.isprintable():
            raise ValueError(f"name or label {text[:80]!r}: 1 to {MAX_LABEL_CHARACTERS} printable characters")
    deciding = labels if manifest.decision != "gaussian" else ()
    if max(len(deciding), len(every) if manifest.dormant else 0) > manifest.net.classes:
        raise ValueError(f"{len(every)} labels, dormant ones included, but only {manifest.net.classes} logits for them")


def decode_manifest(encoded: bytes) -> Manifest:
    """Raises BundleError (unknown_schema, malformed)."""

    class Versioned(msgspec.Struct):
        schema: int

    try:
        schema = msgspec.json.decode(encoded, type=Versioned).schema
        if schema != SCHEMA:
            raise BundleError("unknown_schema", f"manifest schema {schema}; this version reads {SCHEMA}: update it")
        return msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError("malformed", f"manifest.json: {error}") from error
