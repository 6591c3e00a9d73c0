"""The tree of parts: boundaries, nesting, limits, and RFC 3501's part numbers."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.mime import structure
from nodes.mime.structure import DEPTH_LIMIT, PARTS_LIMIT, Part, descend, parse

# The example of RFC 3501 6.4.5, with numbers in the parts' names.
RFC_3501 = b"""Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: text/plain

1
--outer
Content-Type: application/octet-stream

2
--outer
Content-Type: message/rfc822

Subject: three
Content-Type: multipart/mixed; boundary=inner

--inner
Content-Type: text/plain

3.1
--inner
Content-Type: application/octet-stream

3.2
--inner--
--outer
Content-Type: multipart/mixed; boundary=four

--four
Content-Type: image/gif

4.1
--four
Content-Type: message/rfc822

Subject: four two
Content-Type: multipart/mixed; boundary=deep

--deep
Content-Type: text/plain

4.2.1
--deep
Content-Type: multipart/alternative; boundary=deeper

--deeper

4.2.2.1
--deeper
Content-Type: text/richtext

4.2.2.2
--deeper--
--deep--
--four--
--outer--
""".replace(b"\n", b"\r\n")


def content(data: bytes, part: Part | None) -> bytes | None:
    return None if part is None else data[part.body : part.end]


def test_part_numbers_are_those_of_rfc_3501() -> None:
    root = parse(RFC_3501)
    for number in (b"1", b"2", b"3.1", b"3.2", b"4.1", b"4.2.1", b"4.2.2.1", b"4.2.2.2"):
        path = tuple(map(int, number.split(b".")))
        assert content(RFC_3501, descend(root, path)) == number
    for absent in ((0,), (5,), (1, 1), (3, 3), (4, 3), (4, 2, 2, 3), (2, 1)):
        assert descend(root, absent) is None


def test_the_message_inside_a_part_has_its_own_header() -> None:
    found = descend(parse(RFC_3501), (3,))
    assert found is not None
    assert found.message is not None
    assert RFC_3501[found.message.start : found.message.body].startswith(b"Subject: three\r\n")


def test_part_one_of_a_message_that_is_not_multipart_is_its_body() -> None:
    data = b"Subject: x\r\n\r\nhello\r\n"
    root = parse(data)
    assert content(data, descend(root, (1,))) == b"hello\r\n"
    assert descend(root, (1, 1)) is None
    assert descend(root, (2,)) is None


def test_the_line_break_before_a_boundary_belongs_to_the_boundary() -> None:
    for end in (b"\r\n", b"\n"):
        data = end.join([b"Content-Type: multipart/mixed; boundary=b", b"", b"--b", b"", b"x", b"", b"--b--", b""])
        assert content(data, descend(parse(data), (1,))) == b"x" + end


def test_a_boundary_is_a_whole_line_and_may_have_blanks_behind_it() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\none\n--bc\n x --b\n--b\n\ntwo\n--b--"
    root = parse(data)
    assert [content(data, child) for child in root.children] == [b"one\n--bc\n x --b", b"two"]


def test_an_inner_multipart_that_is_not_closed_ends_at_the_outer_boundary() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n"
        b"--i\n\nfirst\n--o\n\nsecond\n--o--\n"
    )
    root = parse(data)
    assert content(data, descend(root, (1, 1))) == b"first"
    assert content(data, descend(root, (2,))) == b"second"


def test_a_last_part_without_a_closing_boundary_reaches_the_end() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nall the rest\n"
    assert content(data, descend(parse(data), (1,))) == b"all the rest\n"


def test_a_multipart_without_parts_shows_what_is_there_as_text() -> None:
    for kind in (b"multipart/mixed", b"multipart/mixed; boundary=absent"):
        data = b"Content-Type: " + kind + b"\n\nsome text\n"
        root = parse(data)
        assert [content(data, child) for child in root.children] == [b"some text\n"]
        assert root.children[0].media[:2] == (b"text", b"plain")


def test_parts_of_a_digest_are_messages_unless_they_say_otherwise() -> None:
    data = (
        b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: inner\n\nhi\n"
        b"--b\nContent-Type: text/plain\n\nt\n--b--\n"
    )
    first, second = parse(data).children
    assert first.message is not None
    assert [field.name for field in first.message.fields] == [b"subject"]
    assert second.message is None


def nested(depth: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(depth))


def depth_of(part: Part) -> int:
    return 1 + max(map(depth_of, part.children), default=0)


def test_nesting_beyond_the_limit_stays_one_opaque_part() -> None:
    root = parse(nested(500))
    assert depth_of(root) == DEPTH_LIMIT + 1
    while root.children:
        root = root.children[0]
    assert root.media[:2] == (b"application", b"octet-stream")


def test_the_number_of_parts_is_limited_and_the_time_too() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 100_000
    start = time.process_time()
    assert len(parse(data).children) <= PARTS_LIMIT
    parse(nested(20_000))
    parse(b"Content-Type: multipart/mixed; boundary=-\n\n" + b"-" * 1_000_000)
    assert time.process_time() - start < 10


def assert_within(part: Part, start: int, end: int) -> None:
    assert start <= part.start <= part.body <= part.end <= end
    for child in part.children:
        assert_within(child, part.body, part.end)
    if part.message is not None:
        assert_within(part.message, part.body, part.end)


PIECES = [
    b"Content-Type: multipart/mixed; boundary=a\n",
    b"Content-Type: multipart/digest; boundary=b\r\n",
    b"\n",
    b"\r\n",
    b"Content-Type: message/rfc822\n",
    b"--a\n",
    b"--a--\n",
    b"--b\r\n",
    b"--b--",
    b"text\n",
    b"--",
    b"Content-Type:",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_every_part_lies_inside_the_part_around_it(data: bytes) -> None:
    assert_within(parse(data), 0, len(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message(data: bytes) -> None:
    assert_within(parse(data), 0, len(data))


def test_what_looks_like_a_boundary_in_the_midst_of_a_line_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noting:
        looked = 0

        def match(self, data: bytes, at: int, end: int) -> re.Match[bytes] | None:
            self.looked += 1
            return real.match(data, at, end)

    real, noting = structure._AFTER_BOUNDARY, Noting()
    monkeypatch.setattr(structure, "_AFTER_BOUNDARY", noting)
    header = b"Content-Type: multipart/mixed; boundary=-\r\n\r\n"
    assert [len(part.children) for part in (parse(header + b"-" * 10_000), parse(header + b"---\n\nx"))] == [1, 1]
    assert noting.looked == 2
