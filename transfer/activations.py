"""The teacher's answer about some images, as bytes. Numpy only: the device reads it without torch.

One safetensors file. n images, v views, C categories of the teacher, p the side of the pooled maps:

    logits            float16 [n, v, C]
    g<G>              int8    [n, v, K, p, p]   the wanted block of group G: its kept channels, averaged to p x p
    g<G>_scale        float32 [n, v]            one step of g<G>
    g<G>_residual     float32 [n, v]            the energy (sum of squares) of the channels that were not kept
    metadata          sample_ids and labels (JSON lists), the teacher's digest

Kept channels and residual are all the loss needs of a map (`transfer.losses.jb`): dropping the rest loses nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from transfer.manifest import Pair
from transfer.spec import MAX_CLASSES, MAX_GROUPS
from transfer.wire import MAX_TRANSFER_BYTES, ActivationRequest, BlockWanted

POOL = 4
MAX_HEADER_BYTES = 2**22
LARGEST_LOGIT = float(np.finfo(np.float16).max)

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[np.generic]]


class ActivationsError(ValueError):
    """An answer that is damaged or does not fit the question; the message says which part and why."""


@dataclass(frozen=True, eq=False)
class Activations:
    """logits [n, v, C] over `labels`; per group maps [n, v, K, p, p] of the kept channels and residuals [n, v], the
    energy of the others. Row i is about sample_ids[i]."""

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


def wanted(pairs: Iterable[Pair]) -> tuple[BlockWanted, ...]:
    """What a student with these pairs asks its teacher for."""
    return tuple(BlockWanted(group=pair.group, block=pair.teacher_block, channels=pair.channels) for pair in pairs)


def encode(activations: Activations) -> bytes:
    """The same answer always gives the same bytes."""
    arrays: Arrays = {"logits": np.clip(activations.logits, -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float16)}
    for group, maps in activations.maps.items():
        largest = np.abs(maps).max(axis=(2, 3, 4))
        # A map of nothing but zeros keeps a scale of one: nothing divides by zero on either side.
        scale = (np.where(largest > 0, largest, 127) / 127).astype(np.float32)
        arrays[f"g{group}"] = np.rint(maps / scale[:, :, None, None, None]).astype(np.int8)
        arrays[f"g{group}_scale"] = scale
        arrays[f"g{group}_residual"] = activations.residuals[group].astype(np.float32)
    metadata = {
        "labels": json.dumps(list(activations.labels)),
        "sample_ids": json.dumps(list(activations.sample_ids)),
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
    sample_ids, labels, teacher = _metadata(data)
    try:
        arrays: Arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ActivationsError(f"the answer is not readable as safetensors: {error}") from error
    groups = sorted(int(name[1:]) for name in arrays if re.fullmatch(r"g\d{1,3}", name))
    names = {"logits"} | {f"g{group}{part}" for group in groups for part in ("", "_scale", "_residual")}
    if set(arrays) != names or groups[MAX_GROUPS:]:
        raise ActivationsError(f"the answer holds {sorted(arrays)[:20]}; expected {sorted(names)[:20]}")
    lead = (len(sample_ids), *arrays["logits"].shape[1:2])
    logits = _checked(arrays, "logits", np.float16, (*lead, len(labels)))
    maps, residuals = {}, {}
    for group in groups:
        name, steps = f"g{group}", arrays[f"g{group}"]
        if steps.ndim != 5 or 0 in steps.shape:
            raise ActivationsError(f"{name} is {steps.shape}; expected [n, v, K, p, p]")
        scale = _checked(arrays, f"{name}_scale", np.float32, lead)
        residuals[group] = _checked(arrays, f"{name}_residual", np.float32, lead)
        if (scale < 0).any() or (residuals[group] < 0).any():
            raise ActivationsError(f"the scale or residual of {name} is below zero")
        maps[group] = _checked(arrays, name, np.int8, (*lead, *steps.shape[2:])) * scale[:, :, None, None, None]
    if not all(np.isfinite(values).all() for values in maps.values()):
        raise ActivationsError("the answer's scales are too large")
    return Activations(sample_ids, labels, teacher, logits, maps, residuals)


def _checked(arrays: Arrays, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Floats:
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise ActivationsError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}")
    values = cast(Floats, array.astype(np.float32))
    if not np.isfinite(values).all():
        raise ActivationsError(f"{name} has values that are not finite")
    return values


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


def _metadata(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    try:
        metadata = json.loads(_header(data)[0])["__metadata__"]
        sample_ids, labels = _strings(metadata["sample_ids"]), _strings(metadata["labels"])
        teacher = metadata["teacher"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ActivationsError):
            raise
        raise ActivationsError(f"the answer does not say its samples, labels and teacher: {error!r:.200}") from error
    if len(labels) > MAX_CLASSES or len(set(labels)) != len(labels) or not isinstance(teacher, str):
        raise ActivationsError(f"the answer has {len(labels)} labels, or one twice, or its teacher is no string")
    return sample_ids, labels, teacher


def _strings(text: str) -> tuple[str, ...]:
    values = json.loads(text)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ActivationsError("the answer's samples and labels must be lists of strings")
    return tuple(values)
