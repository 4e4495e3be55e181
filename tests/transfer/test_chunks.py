from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import wire
from transfer.chunks import CHUNK_OVERHEAD_BYTES, Assembly, cut
from transfer.wire import WireError

ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,80}", fullmatch=True)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=9_000), st.integers(CHUNK_OVERHEAD_BYTES + 1, 3_000), ids)
@pytest.mark.spec("15.2")
def test_chunks_stay_under_the_limit_and_assemble(whole: bytes, limit: int, request_id: str) -> None:
    limit = max(limit, CHUNK_OVERHEAD_BYTES + len(whole) // 50 + 1)
    pieces = list(cut(request_id, "activations", whole, limit_bytes=limit))
    assert all(len(wire.encode(piece, limit_bytes=limit)) <= limit for piece in pieces)
    assembly = Assembly(request_id)
    assert [assembly.add(piece) for piece in pieces] == [None] * (len(pieces) - 1) + [whole]


def test_the_largest_chunk_fits_with_the_longest_fields() -> None:
    whole = bytes(300_000)
    first = next(cut("r" * 80, "activations", whole))
    largest = msgspec.structs.replace(first, offset=2**53, total_bytes=wire.MAX_TRANSFER_BYTES)
    assert len(wire.encode(largest)) <= wire.MAX_MESSAGE_BYTES


def test_a_limit_without_room_for_data_is_refused() -> None:
    with pytest.raises(WireError, match="no room") as caught:
        list(cut("r", "bundle", b"x", limit_bytes=CHUNK_OVERHEAD_BYTES))
    assert caught.value.code == "too_large"


def test_a_slice_can_be_asked_for() -> None:
    whole = bytes(range(256)) * 10
    pieces = list(cut("r", "bundle", whole, from_offset=100, until_offset=1_500, limit_bytes=1_000))
    assert b"".join(piece.data for piece in pieces) == whole[100:1_500]
    assert [piece.offset for piece in pieces] == [100, 500, 900, 1_300]
    assert {piece.sha256 for piece in pieces} == {hashlib.sha256(whole).hexdigest()}


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=2_000), st.data())
@pytest.mark.spec("15.2")
def test_assembly_survives_loss_repetition_and_reordering(whole: bytes, data: st.DataObject) -> None:
    """Whatever arrives in whatever order: the whole comes out once, unharmed, by asking again from `next_offset`."""
    assembly, limit = Assembly("r"), CHUNK_OVERHEAD_BYTES + 300
    results: list[bytes] = []
    everything = list(cut("r", "bundle", whole, limit_bytes=limit))
    for piece in data.draw(st.lists(st.sampled_from(everything), max_size=20)):
        results += filter(None, [assembly.add(piece)])
    for piece in cut("r", "bundle", whole, from_offset=assembly.next_offset, limit_bytes=limit):
        results += filter(None, [assembly.add(piece)])
    for piece in everything:
        results += filter(None, [assembly.add(piece)])
    assert results == [whole]


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=1_500), st.binary(min_size=1, max_size=1_500), st.data())
@pytest.mark.spec("15.2")
def test_assembly_starts_anew_when_the_whole_has_changed(old: bytes, new: bytes, data: st.DataObject) -> None:
    limit = CHUNK_OVERHEAD_BYTES + 300
    assembly = Assembly("r")
    stale = list(cut("r", "bundle", old, limit_bytes=limit))
    mixed = stale + list(cut("r", "bundle", new, limit_bytes=limit))
    for piece in data.draw(st.lists(st.sampled_from(mixed), max_size=15)):
        if (early := assembly.add(piece)) is not None:
            assert early in (old, new)
            return
    result = None
    for _ in range(2):  # the first answer may only tell that the whole is another one
        for piece in cut("r", "bundle", new, from_offset=assembly.next_offset, limit_bytes=limit):
            result = result or assembly.add(piece)
    assert result == new


def test_a_shorter_whole_is_noticed_from_beyond_its_end() -> None:
    pieces = list(cut("r", "bundle", b"123", from_offset=2_000, until_offset=2_002))
    assert [(piece.offset, piece.data) for piece in pieces] == [(0, b"12")]


def test_assembly_ignores_other_requests() -> None:
    assembly = Assembly("mine")
    assert [assembly.add(piece) for piece in cut("theirs", "bundle", b"xyz")] == [None]
    assert assembly.next_offset == 0


def test_assembly_refuses_what_is_too_large() -> None:
    (piece,) = cut("r", "bundle", b"12345")
    with pytest.raises(WireError, match="5 bytes exceeds 4") as caught:
        Assembly("r", limit_bytes=4).add(piece)
    assert caught.value.code == "too_large"


def test_assembly_refuses_wrong_content_and_can_begin_again() -> None:
    (piece,) = cut("r", "bundle", b"12345")
    assembly = Assembly("r")
    with pytest.raises(WireError, match="sha256") as caught:
        assembly.add(msgspec.structs.replace(piece, data=b"1234X"))
    assert caught.value.code == "hash_mismatch"
    assert assembly.next_offset == 0
    assert assembly.add(piece) == b"12345"


def test_an_empty_chunk_cannot_complete_an_answer_twice() -> None:
    (piece,) = cut("r", "bundle", b"12345")
    empty = wire.encode(msgspec.structs.replace(piece, offset=5, data=b""))
    with pytest.raises(WireError, match="data"):
        wire.decode(empty, wire.Chunk)
