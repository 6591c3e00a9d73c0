"""Packets of the milter protocol, whole and damaged."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.filters import milter_protocol as protocol
from nodes.filters.health import Garbage
from nodes.filters.milter_protocol import Decoder, Packet


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=50)), max_size=10), st.data())
def test_packets_are_the_same_in_whatever_pieces_they_come(
    told: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    octets = b"".join(protocol.packet(*one) for one in told)
    decoder, got = Decoder(), list[Packet]()
    while octets:
        size = data.draw(st.integers(1, len(octets)))
        got += decoder.feed(octets[:size])
        octets = octets[size:]
    assert got == told


@pytest.mark.parametrize("size", [0, protocol.MOST_REPLY_BYTES + 1, 0xFFFFFFFF])
def test_a_packet_without_a_letter_or_too_long_is_garbage(size: int) -> None:
    with pytest.raises(Garbage):
        Decoder().feed(struct.pack(">I", size))


@given(st.binary(max_size=40))
def test_an_answer_is_understood_or_garbage_and_nothing_else(data: bytes) -> None:
    for letter in b"OacdfhimrtypqsYbe+-24\x00":
        answer = Packet(bytes([letter]), data)
        for read in (protocol.agreed, protocol.decision, protocol.change):
            with contextlib.suppress(Garbage):
                read(answer)


@pytest.mark.parametrize(
    "data",
    [b"", struct.pack(">III", 1, 0, 0), struct.pack(">III", 7, 0, 0), struct.pack(">III", 6, 0x200, 0)],
)
def test_a_negotiation_for_what_was_not_offered_is_garbage(data: bytes) -> None:
    with pytest.raises(Garbage):
        protocol.agreed(Packet(b"O", data))


def test_a_client_is_told_by_its_family() -> None:
    assert protocol.connection_data("", "2001:db8::1") == b"[2001:db8::1]\x006\0\0IPv6:2001:db8::1\0"
    assert protocol.connection_data("", "") == b"unknown\0U"
