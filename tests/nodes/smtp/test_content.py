"""The scanner of DATA: RFC 5321 4.1.1.4 and 4.5.2, RFC 1870, and what smuggling tries."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.smtp.content import Content, DataScanner

LIMIT = 1 << 20
END = b".\r\n"

pieces = st.sampled_from([b"\r\n", b".", b"..", b"\r", b"\n", b"a", b"a line", b"\0", b"\xff"])
soups = st.lists(pieces, max_size=60).map(b"".join)
lines = st.lists(st.binary(max_size=12).map(lambda line: re.sub(rb"[\r\n]", b"", line)), max_size=12)


def scan(data: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> Content | None:
    """Feeds `data` cut at the given places; what comes after the end stays in `rest`."""
    scanner = DataScanner(limit)
    at = 0
    for cut in [*sorted(cuts or []), len(data)]:
        if (content := scanner.feed(data[at:cut])) is not None:
            return content._replace(rest=content.rest + data[cut:])
        at = cut
    return None


def stuffed(text: bytes) -> bytes:
    """The dumb oracle: a dot before each line that begins with one, line by line."""
    return b"".join(b"." + line if line.startswith(b".") else line for line in re.findall(rb".*?\r\n", text, re.S))


@given(lines)
def test_a_message_comes_out_as_it_was_before_its_dots_were_stuffed(content: list[bytes]) -> None:
    text = b"".join(line + b"\r\n" for line in content)
    scanned = scan(stuffed(text) + END + b"QUIT\r\n")
    assert scanned == Content(text, False, False, b"QUIT\r\n")


def read_whole(stream: bytes) -> Content | None:
    """The dumb oracle for arbitrary bytes: everything at once, from the definition."""
    framed = b"\r\n" + stream
    end = framed.find(b"\r\n.\r\n")
    if end < 0:
        return None
    text, rest = framed[: end + 2], framed[end + 5 :]
    if re.search(rb"[\r\n]\.[\r\n]", text):
        return Content(b"", False, True, rest)
    return Content(re.sub(rb"(?<=\r\n)\.", b"", text)[2:], False, False, rest)


@given(soups, st.sampled_from([b"", b"\r\n.\r\n", b"\r\n.\r\nNOOP\r\n"]), st.data())
def test_every_way_to_cut_the_bytes_gives_what_the_whole_gives(soup: bytes, end: bytes, data: st.DataObject) -> None:
    stream = soup + end
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    expected = read_whole(stream)
    assert scan(stream) == scan(stream, cuts) == scan(stream, list(range(len(stream)))) == expected


@pytest.mark.parametrize("sequence", [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r", b"\n.\r"])
def test_a_smuggling_sequence_never_ends_data_and_makes_the_message_ambiguous(sequence: bytes) -> None:
    smuggled = b"first" + sequence + b"MAIL FROM:<evil@example.test>\r\n"
    assert scan(smuggled) is None
    assert scan(smuggled + END) == Content(b"", False, True, b"")


def test_a_smuggling_sequence_at_the_very_start_is_seen() -> None:
    assert scan(b".\n.\r\n" + END) == Content(b"", False, True, b"")


def test_bare_line_ends_elsewhere_are_kept_as_they_are() -> None:
    assert scan(b"a\nb\rc\r\n" + END) == Content(b"a\nb\rc\r\n", False, False, b"")


def test_an_empty_message_is_a_message() -> None:
    assert scan(END) == Content(b"", False, False, b"")


def test_a_message_of_exactly_the_limit_passes_and_one_octet_more_does_not() -> None:
    text = b"x" * 98 + b"\r\n"
    assert scan(text + END, limit=100) == Content(text, False, False, b"")
    assert scan(b"x" + text + END, limit=100) == Content(b"", True, False, b"")


def test_stuffed_dots_do_not_count_against_the_limit() -> None:
    text = b".\r\n" * 33
    assert scan(stuffed(text) + END, limit=99) == Content(text, False, False, b"")


def test_of_a_message_over_the_limit_nothing_is_kept_and_its_end_is_still_found() -> None:
    scanner = DataScanner(1000)
    for _ in range(1000):
        assert scanner.feed(b"x" * 998 + b"\r\n") is None
        assert scanner.held_bytes < 3000
    for octet in b".\r\nQUIT\r\n"[:2]:
        assert scanner.feed(bytes([octet])) is None
    assert scanner.feed(b"\nQUIT\r\n") == Content(b"", True, False, b"QUIT\r\n")
