"""A whole that is larger than a message, cut into `wire.Chunk` and put together again. Pure, as `wire` is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from transfer.wire import MAX_MESSAGE_BYTES, MAX_TRANSFER_BYTES, Chunk, WireError

CHUNK_OVERHEAD_BYTES = 600
"""Room for the fields of a `Chunk` around its data."""


def cut(
    request_id: str,
    content: Literal["activations", "bundle"],
    whole: bytes,
    *,
    from_offset: int = 0,
    until_offset: int | None = None,
    limit_bytes: int = MAX_MESSAGE_BYTES,
) -> Iterator[Chunk]:
    """Cut `whole[from_offset:until_offset]` into messages that stay under `limit_bytes` when encoded.

    Who asks from beyond the end holds a part of another, longer whole: it is sent this one from its beginning, or it
    would never learn.
    """
    if from_offset >= len(whole):
        until_offset = None if until_offset is None else until_offset - from_offset
        from_offset = 0
    step = limit_bytes - CHUNK_OVERHEAD_BYTES
    if step <= 0:
        raise WireError("too_large", f"a packet limit of {limit_bytes} bytes leaves no room for data")
    digest = hashlib.sha256(whole).hexdigest()
    end = len(whole) if until_offset is None else min(until_offset, len(whole))
    for offset in range(from_offset, end, step):
        yield Chunk(
            request_id=request_id,
            content=content,
            offset=offset,
            total_bytes=len(whole),
            sha256=digest,
            data=whole[offset : min(offset + step, end)],
        )


class Assembly:
    """Collects the chunks of one answer, in order, whatever is repeated on the way.

    `next_offset` is where to resume. A chunk that does not continue (a gap) is ignored: asking again from
    `next_offset` closes it. A chunk of another whole (other digest: the teacher changed) starts anew.
    """

    def __init__(self, request_id: str, *, limit_bytes: int = MAX_TRANSFER_BYTES) -> None:
        self.request_id = request_id
        self._limit_bytes = limit_bytes
        self._sha256 = ""
        self._data = bytearray()

    @property
    def next_offset(self) -> int:
        return len(self._data)

    def add(self, chunk: Chunk) -> bytes | None:
        """The whole, once complete and verified; else None. Raises WireError 'too_large' or 'hash_mismatch'."""
        if chunk.request_id != self.request_id:
            return None
        if chunk.total_bytes > self._limit_bytes:
            raise WireError("too_large", f"answer of {chunk.total_bytes} bytes exceeds {self._limit_bytes}")
        if chunk.sha256 != self._sha256:
            if chunk.offset != 0:
                if self._sha256:
                    self._sha256, self._data = "", bytearray()
                return None
            self._sha256, self._data = chunk.sha256, bytearray()
        if chunk.offset != len(self._data) or len(self._data) + len(chunk.data) > chunk.total_bytes:
            return None
        self._data += chunk.data
        if len(self._data) < chunk.total_bytes:
            return None
        whole = bytes(self._data)
        if hashlib.sha256(whole).hexdigest() != self._sha256:
            self._sha256, self._data = "", bytearray()
            raise WireError("hash_mismatch", f"answer to {self.request_id} does not match its sha256")
        return whole
