"""Frames: bytes in any pieces, limits before allocation, and garbage ends the connection and nothing else."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import FrameError
from eventlog.frames import LENGTH_BYTES, MAX_FRAME_BYTES, ONE_PIECE_BYTES, FrameReader, encode_frame, frame_parts

scalars = st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.binary(max_size=30) | st.text(max_size=10)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8)
messages = st.dictionaries(st.sampled_from(["term", "entries", "x"]), values).map(lambda m: {"type": "t", **m})


@given(st.lists(messages, max_size=5), st.data())
def test_messages_arrive_whole_and_in_order_however_the_bytes_are_cut(
    sent: list[dict[str, Any]], data: st.DataObject
) -> None:
    stream = b"".join(map(encode_frame, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader, received = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += list(reader.feed(stream[start:end]))
    assert received == sent


def test_bytes_one_at_a_time_are_enough() -> None:
    reader = FrameReader()
    received = [message for byte in encode_frame({"type": "t", "n": 1}) for message in reader.feed(bytes((byte,)))]
    assert received == [{"type": "t", "n": 1}]


@pytest.mark.parametrize("size", [0, ONE_PIECE_BYTES, 1 << 20])
def test_a_frame_is_the_same_bytes_in_one_piece_or_two_and_a_large_one_is_not_copied(size: int) -> None:
    message = {"type": "t", "data": bytes(size)}
    pieces = frame_parts(message)
    assert b"".join(pieces) == encode_frame(message)
    assert len(pieces) == (2 if size >= ONE_PIECE_BYTES else 1)


def test_a_frame_over_the_limit_is_refused_from_its_length_alone() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        list(FrameReader(max_frame_bytes=100).feed((101).to_bytes(LENGTH_BYTES, "big")))


def test_a_frame_of_exactly_the_limit_passes() -> None:
    frame = encode_frame({"type": "t", "data": bytes(100)})
    assert list(FrameReader(max_frame_bytes=len(frame) - LENGTH_BYTES).feed(frame))


def test_messages_before_a_bad_frame_are_delivered() -> None:
    frames = FrameReader().feed(encode_frame({"type": "good"}) + b"\xff\xff\xff\xff")
    assert next(frames) == {"type": "good"}
    with pytest.raises(FrameError):
        next(frames)


def test_a_message_over_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        encode_frame({"type": "t", "data": bytes(MAX_FRAME_BYTES)})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x81",
        msgpack.packb([1, 2]),
        msgpack.packb("text"),
        msgpack.packb({"no": "type"}),
        msgpack.packb({"type": 7}),
        msgpack.packb({"type": "t"}) + b"more",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_a_payload_that_is_no_message_is_a_frame_error(payload: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().feed(len(payload).to_bytes(LENGTH_BYTES, "big") + payload))


@given(st.binary(max_size=300))
def test_garbage_is_a_frame_error_a_message_or_a_wait_for_more(garbage: bytes) -> None:
    reader = FrameReader(max_frame_bytes=1000)
    try:
        received = list(reader.feed(garbage))
    except FrameError:
        return
    assert all(isinstance(message["type"], str) for message in received)


@given(st.binary(max_size=100))
def test_what_a_peer_sends_is_only_ever_plain_data(payload: bytes) -> None:
    plain = (dict, tuple, str, bytes, int, float, bool, type(None), msgpack.ExtType, msgpack.Timestamp)
    try:
        (message,) = FrameReader().feed(encode_frame({"type": "t", "x": payload}))
        (again,) = FrameReader().feed(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
    except (FrameError, ValueError):
        return
    assert isinstance(message["x"], bytes)
    assert all(isinstance(value, plain) for value in again.values())
