"""Byte-stuffing and TOP (RFC 1939 3 and 7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.pop3 import multiline

pieces = st.sampled_from([b"\r\n", b".", b"..", b"\n", b"a", b"text", b"\r"])
soups = st.lists(pieces, max_size=30).map(b"".join)


def received(answer: bytes) -> bytes:
    """What a client that splits lines at LF makes of a multi-line answer: the dumb oracle."""
    lines = []
    for line in (part + b"\n" for part in answer.split(b"\n")[:-1]):
        if line in (b".\r\n", b".\n"):
            break
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


@given(soups, st.integers(1, 7), st.integers(0, 30))
def test_a_client_receives_what_was_stored(soup: bytes, slice_bytes: int, cut: int) -> None:
    text = soup + b"\r\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiline, "SLICE_BYTES", slice_bytes)
        answer = b"".join(multiline.stuffed(text[:cut], text[cut:]))
    assert answer.endswith(b"\r\n.\r\n")
    assert received(answer) == text


def test_a_message_without_a_last_line_end_gets_one() -> None:
    assert b"".join(multiline.stuffed(b"no end")) == b"no end\r\n.\r\n"


def test_an_empty_message_is_only_the_dot() -> None:
    assert b"".join(multiline.stuffed(b"")) == b".\r\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, b"A: 1\r\nB: 2\r\n\r\n"), (1, b"A: 1\r\nB: 2\r\n\r\none\r\n"), (9, b"A: 1\r\nB: 2\r\n\r\none\r\ntwo\r\n")],
)
def test_top_gives_the_header_and_so_many_lines(lines: int, expected: bytes) -> None:
    assert multiline.top(b"A: 1\r\nB: 2\r\n\r\none\r\ntwo\r\n", lines) == expected


def test_top_of_a_message_without_body_or_header() -> None:
    assert multiline.top(b"A: 1\r\n", 5) == b"A: 1\r\n"
    assert multiline.top(b"\r\nbody\r\nmore\r\n", 1) == b"\r\nbody\r\n"
    assert multiline.top(b"A: 1\n\nbody\nmore\n", 1) == b"A: 1\n\nbody\n"
