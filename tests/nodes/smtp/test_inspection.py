"""What a message may not contain: RFC 5321 2.3.8, 4.5.3.1.6, 6.3; RFC 2045 2.8; RFC 3030 3."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.config.smtp import SmtpSection
from nodes.smtp import replies
from nodes.smtp.inspection import fault, header_of

DEFAULT = SmtpSection()
LAX = SmtpSection(bare_line_ends="accept", nul_octets="accept")
STRICT = SmtpSection(long_lines="refuse", eight_bit_headers="refuse")
pieces = st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\0"])
soups = st.lists(pieces, max_size=40).map(b"".join)


def judged(data: bytes, rules: SmtpSection = DEFAULT, *, utf8: bool = False, binary: bool = False) -> bytes | None:
    return fault(data, rules, utf8=utf8, binary=binary)


@settings(deadline=None)
@given(soups)
def test_bare_line_ends_are_found_wherever_they_stand(data: bytes) -> None:
    bare = re.search(rb"(?<!\r)\n|\r(?!\n)", data) is not None
    assert (judged(data, SmtpSection(nul_octets="accept")) == replies.BARE_LINE_END) == bare


@settings(deadline=None)
@given(soups)
def test_a_lone_dot_beside_a_bare_line_end_is_refused_even_where_those_are_let_pass(data: bytes) -> None:
    ends = [(match.start(), match.end(), match[0]) for match in re.finditer(rb"\r\n|\r|\n", data)]
    lone = any(
        before[1] + 1 == after[0] and data[before[1] : after[0]] == b"." and {before[2], after[2]} != {b"\r\n"}
        for before, after in itertools.pairwise(ends)
    )
    assert (judged(data, LAX) == replies.AMBIGUOUS_END) == lone


def test_binarymime_may_hold_any_octet() -> None:
    assert judged(b"a: b\r\n\r\n\n.\n\0\r", binary=True) is None


def test_a_nul_is_refused_unless_it_was_allowed() -> None:
    assert judged(b"a: b\r\n\r\n\0\r\n") == replies.NUL_OCTET
    assert judged(b"a: b\r\n\r\n\0\r\n", LAX) is None


def test_a_line_of_998_octets_passes_and_one_octet_more_does_where_long_lines_may() -> None:
    head = b"a: b\r\n\r\n"
    assert judged(head + b"x" * 998 + b"\r\n", STRICT) is None
    assert judged(head + b"x" * 999 + b"\r\n", STRICT) == replies.CONTENT_LINE_TOO_LONG
    assert judged(head + b"x" * 99_999 + b"\r\n") is None


def test_a_header_outside_ascii_needs_smtputf8_where_that_is_asked_for() -> None:
    message = "Subject: ä\r\n\r\nä\r\n".encode()
    assert judged(message) is None
    assert judged(message, STRICT) == replies.EIGHT_BIT_HEADER
    assert judged(message, STRICT, utf8=True) is None
    assert judged("Subject: a\r\n\r\nä\r\n".encode(), STRICT) is None


def test_fields_are_counted_whole_with_their_continuation_lines() -> None:
    rules = SmtpSection(header_fields=3)
    folded = b"a: b\r\n" + b" c\r\n" * 50
    assert judged(folded * 3 + b"\r\n", rules) is None
    assert judged(folded * 4 + b"\r\n", rules) == replies.TOO_MANY_FIELDS
    assert judged(b"\x01:\r\n" * 4 + b"\r\n", rules) == replies.TOO_MANY_FIELDS  # to some readers it is one
    assert judged(b"\x01:\r\n \x01:\r\n" * 3 + b"\r\n", rules) is None
    assert judged(b"x\r\n" * 100, rules) is None  # no header at all


@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_a_header_over_its_limit_is_refused_and_a_body_is_not(end: bytes) -> None:
    rules = SmtpSection(header_bytes=1024)
    assert judged(b"a: b\r\n" * 200 + end, rules) == replies.HEADER_TOO_BIG
    assert judged(b"a: b\r\n" * 100 + end, rules) is None
    assert judged(b"a: b\r\n\r\n" + b"c: d\r\n" * 500, rules) is None
    assert judged(b"no header\r\n" * 500, rules) is None


def test_received_lines_are_counted_in_the_header_only() -> None:
    rules = SmtpSection(received_lines=2)
    header = b"Received: a\r\n\tby b\r\nRECEIVED: c\r\nX-Received: d\r\n"
    assert judged(header + b"\r\nReceived: in the body\r\n", rules) is None
    assert judged(b"Received: x\r\n" + header, rules) == replies.MAIL_LOOP


def test_a_header_ends_at_the_empty_line_or_where_no_field_goes_on() -> None:
    assert header_of(b"a: b\r\n\r\nc: d\r\n", 100) == b"a: b\r\n"
    assert header_of(b"a: b\r\n c\r\nno field\r\nc: d\r\n", 100) == b"a: b\r\n c\r\n"
    assert header_of(b"", 100) == b""
