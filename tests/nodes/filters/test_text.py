"""What filters say is made harmless before it goes anywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.filters.text import MOST_LINES, MOST_LINES_BYTES, Lines, header_line, plain, smtp_reply

_FIELD = re.compile(rb"[!-9;-~]+: ?[\t -~]*\r\n(?:[ \t][\t -~]*[!-~][\t -~]*\r\n)*")
_REPLY = re.compile(rb"(?:([45]\d\d)[ -]([45])\.\d{1,3}\.\d{1,3} [ -~]+\r\n)+")


@given(st.binary(max_size=30), st.binary(max_size=300))
def test_a_field_is_one_field_whatever_was_told(name: bytes, value: bytes) -> None:
    line = header_line(b"X" + name, value)
    assert line is None or _FIELD.fullmatch(line)


@given(st.binary(max_size=200))
def test_a_reply_refuses_and_is_well_formed_whatever_was_told(data: bytes) -> None:
    for told in (data, b"550 " + data, b"451 4.7.1 " + data):
        reply = smtp_reply(told)
        assert reply is None or _REPLY.fullmatch(reply)


@given(st.text(max_size=500))
def test_plain_text_is_printable_and_short(text: str) -> None:
    assert re.fullmatch(r"[ -~]{0,100}", plain(text, 100))


@pytest.mark.parametrize(
    ("told", "reply"),
    [
        (b"550 5.7.1 no", b"550 5.7.1 no\r\n"),
        (b"550 4.7.1 no", b"550 5.7.1 no\r\n"),
        (b"550", b"550 5.7.1 Refused by a filter\r\n"),
        (b"550-a\r\n551 b", None),
        (b"250 2.0.0 fine", None),
        (b"", None),
    ],
)
def test_replies_are_worded_anew(told: bytes, reply: bytes | None) -> None:
    assert smtp_reply(told) == reply


def test_there_is_an_end_to_the_lines_of_a_filter() -> None:
    many, large = Lines(), Lines()
    assert [many.add(b"X", b"y") for _ in range(MOST_LINES + 1)].count(False) == 1
    while large.add(b"X", b"y\n" * 1000):
        pass
    assert sum(map(len, large.lines)) <= MOST_LINES_BYTES
