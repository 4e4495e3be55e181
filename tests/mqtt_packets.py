"""MQTT's packets, cut out of a stream: for taps that lose and repeat them, as bad networks and brokers do."""

from __future__ import annotations

CONNECT, PUBLISH, PUBACK = 1, 3, 4


def cut(stream: bytearray) -> list[bytes]:
    """The whole packets at the beginning of `stream`, taken out of it."""
    packets = []
    while (end := _end(stream)) is not None:
        packets.append(bytes(stream[:end]))
        del stream[:end]
    return packets


def kind(packet: bytes) -> int:
    return packet[0] >> 4


def is_acknowledged(packet: bytes) -> bool:
    """A PUBLISH of QoS 1."""
    return kind(packet) == PUBLISH and (packet[0] >> 1) & 3 == 1


def _end(stream: bytearray) -> int | None:
    """Where the first packet ends, by its remaining length (a number of up to four 7-bit digits)."""
    length = 0
    for position in range(1, 5):
        if position >= len(stream):
            return None
        length |= (stream[position] & 0x7F) << (7 * (position - 1))
        if stream[position] < 0x80:
            end = position + 1 + length
            return end if end <= len(stream) else None
    raise ValueError("this is not MQTT")
