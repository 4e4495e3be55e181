"""The teacher's answer about some images, as bytes. Numpy only: the device reads it without torch.

One safetensors file. n images, v views, C categories of the teacher:

    sample_ids      uint8   [n, 32]    SHA-256 of each image
    logits          float16 [n, v, C]
    g<G>            uint8   [n, v, b]  the wanted block of group G: its kept channels [K, p, q], two values a byte
    g<G>_range      float16 [n, v, 2]  the value of g<G>'s level 0, and the step from one level to the next
    metadata        labels and maps (JSON: a list; [K, p, q] by group), the teacher's digest

The loss looks at a map only after dividing it by its norm (Q = F / ||F||, arXiv 2201.10947, eq. 4), the channels that
were not kept included. So Q is what is sent: with its energy known to be one, what the kept channels lack is the energy
of the others, and kept channels and that are all the loss needs (`transfer.losses.jb`). Dropping the rest loses
nothing; averaging to POOL x POOL and rounding to 16 levels does, and docs/resource-limits.md says how little.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from transfer.four_bits import Floats, Shape, pack, packed_bytes, unpack
from transfer.manifest import Pair
from transfer.spec import MAX_CLASSES, MAX_GROUPS
from transfer.wire import MAX_TRANSFER_BYTES, ActivationRequest, BlockWanted

POOL = 2
"""Side of the maps, whatever it was in the network: where in the image something is, roughly, is still in them. On
held-out training images of CIFAR-10 no difference to whole maps in float32 shows (92.37 % both, three draws). With Jb
weighed ten times as much and a tenth of the weight on keeping the features, one draw ended at 92.11 % with whole maps
in float32, at 92.11, 92.15 and 91.95 with 4 x 4, 2 x 2 and 1 x 1 in four bits."""
ID_BYTES = 32
MAX_HEADER_BYTES = 2**22
LARGEST_LOGIT = float(np.finfo(np.float16).max)

Arrays = dict[str, npt.NDArray[np.generic]]
Number = TypeVar("Number", np.uint8, np.float16)


class ActivationsError(ValueError):
    """An answer that is damaged or does not fit the question; the message says which part and why."""


@dataclass(frozen=True, eq=False)
class Activations:
    """logits [n, v, C] over `labels`; per group maps [n, v, K, p, q] of the kept channels and residuals [n, v], the
    energy (sum of squares) of the others. Row i is about sample_ids[i]. Decoded ones are scaled: both energies
    together are one."""

    sample_ids: tuple[str, ...]
    labels: tuple[str, ...]
    teacher: str
    logits: Floats
    maps: dict[int, Floats] = field(default_factory=dict)
    residuals: dict[int, Floats] = field(default_factory=dict)

    def check_answers(self, request: ActivationRequest) -> None:
        """Raises ActivationsError unless this is an answer to exactly that request."""
        if self.sample_ids != request.sample_ids:
            raise ActivationsError(f"the answer is about other samples than request {request.request_id}")
        if request.teacher and self.teacher != request.teacher:
            raise ActivationsError(f"the answer is of teacher {self.teacher[:80]!r}, not of {request.teacher}")
        if self.logits.shape[1] != len(request.views):
            raise ActivationsError(f"the answer has {self.logits.shape[1]} views instead of {len(request.views)}")
        kept = {wanted.group: len(wanted.channels) for wanted in request.blocks}
        if {group: maps.shape[2] for group, maps in self.maps.items()} != kept:
            raise ActivationsError(f"the answer does not hold the block maps that {request.request_id} asked for")
        for group, maps in self.maps.items():
            if max(maps.shape[3:]) > request.pool:
                raise ActivationsError(f"group {group} has maps of {maps.shape[3:]}; asked for {request.pool}")


def most_bytes(request: ActivationRequest) -> int:
    """No answer to that request is larger: a device need not collect more, whoever sends it."""
    maps = sum(packed_bytes((len(block.channels), request.pool, request.pool)) + 4 for block in request.blocks)
    images = len(request.sample_ids)
    return MAX_HEADER_BYTES + images * (ID_BYTES + len(request.views) * (2 * MAX_CLASSES + maps))


def wanted(pairs: Iterable[Pair]) -> tuple[BlockWanted, ...]:
    """What a student with these pairs asks its teacher for."""
    return tuple(BlockWanted(group=pair.group, block=pair.teacher_block, channels=pair.channels) for pair in pairs)


def encode(activations: Activations) -> bytes:
    """The same answer always gives the same bytes. Raises ValueError unless the sample ids are SHA-256 in hex."""
    ids = b"".join(bytes.fromhex(name) for name in activations.sample_ids)
    arrays: Arrays = {
        "sample_ids": np.frombuffer(ids, np.uint8).reshape(len(activations.sample_ids), ID_BYTES),
        "logits": np.clip(activations.logits, -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float16),
    }
    for group, maps in activations.maps.items():
        arrays[f"g{group}"], arrays[f"g{group}_range"] = pack(_unit(maps, activations.residuals[group]))
    metadata = {
        "labels": json.dumps(list(activations.labels)),
        "maps": json.dumps({group: maps.shape[2:] for group, maps in activations.maps.items()}),
        "teacher": activations.teacher,
    }
    data: bytes = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata)
    return _with_sorted_metadata(data)


def decode(data: bytes) -> Activations:
    """The answer in `data`, consistent in itself; `check_answers` compares it with the question.

    Raises ActivationsError.
    """
    if len(data) > MAX_TRANSFER_BYTES:
        raise ActivationsError(f"answer of {len(data)} bytes, more than {MAX_TRANSFER_BYTES}")
    told = _metadata(data)
    try:
        arrays: Arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ActivationsError(f"the answer is not readable as safetensors: {error}") from error
    names = {"sample_ids", "logits"} | {f"g{group}{part}" for group in told.maps for part in ("", "_range")}
    if set(arrays) != names:
        raise ActivationsError(f"the answer holds {sorted(arrays)[:20]}; expected {sorted(names)[:20]}")
    ids = _checked(arrays, "sample_ids", np.uint8, (*arrays["sample_ids"].shape[:1], ID_BYTES))
    lead = (len(ids), *arrays["logits"].shape[1:2])
    if 0 in lead:
        raise ActivationsError(f"the answer is about {lead} images and views")
    logits = _checked(arrays, "logits", np.float16, (*lead, len(told.labels))).astype(np.float32)
    maps = {}
    for group, shape in told.maps.items():
        levels = _checked(arrays, f"g{group}", np.uint8, (*lead, packed_bytes(shape)))
        ranges = _checked(arrays, f"g{group}_range", np.float16, (*lead, 2))
        if (np.abs(ranges) > 1).any() or (ranges[:, :, 1] < 0).any():
            raise ActivationsError(f"g{group}_range is not of maps of norm one")
        maps[group] = unpack(levels, ranges, shape)
    residuals = {group: np.maximum(0, 1 - _energy(values)) for group, values in maps.items()}
    return Activations(tuple(row.tobytes().hex() for row in ids), told.labels, told.teacher, logits, maps, residuals)


def _unit(maps: Floats, residuals: Floats) -> Floats:
    """Q of eq. 4: maps [n, v, K, p, q] divided by the norm of kept and other channels; a silent map stays silent."""
    norms = np.sqrt(_energy(maps) + residuals)
    return cast(Floats, maps / np.where(norms > 0, norms, 1)[:, :, None, None, None])


def _energy(maps: Floats) -> Floats:
    return cast(Floats, np.square(maps).sum(axis=(2, 3, 4)))


def _checked(arrays: Arrays, name: str, dtype: type[Number], shape: tuple[int, ...]) -> npt.NDArray[Number]:
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise ActivationsError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}")
    if not np.isfinite(array).all():
        raise ActivationsError(f"{name} has values that are not finite")
    return cast("npt.NDArray[Number]", array)


def _header(data: bytes) -> tuple[bytes, bytes]:
    """A safetensors file is 8 bytes of length, a JSON header of that length, and the rest."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ActivationsError("the answer has no safetensors header: it was cut off or is something else")
    return data[8 : 8 + length], data[8 + length :]


def _with_sorted_metadata(data: bytes) -> bytes:
    """safetensors writes the metadata in the order of a hash map, another one each time; a repeated answer must be the
    same bytes, or a device that resumes in the middle of it would have to begin again."""
    header, rest = _header(data)
    parsed = json.loads(header)
    parsed["__metadata__"] = dict(sorted(parsed["__metadata__"].items()))
    written = json.dumps(parsed, separators=(",", ":"), ensure_ascii=False).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + rest


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__")


class _Told(NamedTuple):
    """What an answer says of itself; maps: [K, p, q] by group."""

    labels: tuple[str, ...]
    maps: dict[int, Shape]
    teacher: str


def _metadata(data: bytes) -> _Told:
    header = _header(data)[0]
    try:
        metadata = msgspec.json.decode(header, type=_Header).metadata
        labels = msgspec.json.decode(metadata["labels"], type=tuple[str, ...])
        maps = msgspec.json.decode(metadata["maps"], type=dict[int, Shape])
        teacher = metadata["teacher"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError) as error:
        raise ActivationsError(f"the answer does not say its labels, maps and teacher: {error!r:.200}") from error
    if not labels or len(labels) > MAX_CLASSES or len(set(labels)) != len(labels):
        raise ActivationsError(f"the answer has {len(labels)} labels, or one twice")
    if len(maps) > MAX_GROUPS or not all(1 <= side < 2**16 for shape in maps.values() for side in shape):
        raise ActivationsError(f"the answer has maps of {list(maps.values())[:MAX_GROUPS]}")
    return _Told(labels, maps, teacher)
