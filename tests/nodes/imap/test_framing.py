"""From bytes to commands: literals, continuations, limits, and indifference to how the bytes arrive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.imap.framing import NEED_MORE, Continuation, Frame, Framer, Limits, Oversize, Step

LIMITS = Limits(line=1000, literal=100, append=2000)


def steps(framer: Framer, *pieces: bytes) -> list[Step]:
    found: list[Step] = []
    for piece in pieces:
        framer.feed(piece)
        while (step := framer.next_frame()) is not NEED_MORE:
            found.append(step)
            if isinstance(step, Oversize) and step.fatal:
                return found
    return found


def test_a_line_is_a_command() -> None:
    assert steps(Framer(LIMITS), b"a NOOP\r\nb NOOP\n") == [Frame(b"a NOOP\r\n", ()), Frame(b"b NOOP\n", ())]


def test_an_unfinished_line_needs_more() -> None:
    assert steps(Framer(LIMITS), b"a NOO") == []


def test_a_literal_waits_for_the_servers_leave() -> None:
    framer = Framer(LIMITS)
    assert steps(framer, b"a LOGIN {3}\r\n") == [Continuation(3)]
    assert steps(framer, b"bob {2+}\r\npw\r\n") == [Frame(b"a LOGIN {3}\r\n {2+}\r\n\r\n", (b"bob", b"pw"))]


def test_a_literal_may_hold_line_ends_and_what_looks_like_a_literal() -> None:
    found = steps(Framer(LIMITS), b"a X {12+}\r\na {99}\r\n\r\nb\n Y\r\n")
    assert found == [Frame(b"a X {12+}\r\n Y\r\n", (b"a {99}\r\n\r\nb\n",))]


def test_an_empty_literal_is_one() -> None:
    assert steps(Framer(LIMITS), b"a X {0+}\r\n\r\n") == [Frame(b"a X {0+}\r\n\r\n", (b"",))]


def test_a_literal_over_the_limit_is_refused_before_a_byte_of_it_is_taken() -> None:
    (found,) = steps(Framer(LIMITS), b"a LOGIN {101}\r\n")
    assert isinstance(found, Oversize)
    assert (found.tag, found.code, found.fatal) == (b"a", "TOOBIG", False)


def test_a_literal_of_4_gib_that_does_not_wait_ends_the_connection() -> None:
    (found,) = steps(Framer(LIMITS), b"a LOGIN {4294967296+}\r\n")
    assert isinstance(found, Oversize)
    assert found.fatal


def test_a_literal_with_an_absurd_number_of_digits_is_no_literal() -> None:
    (found,) = steps(Framer(LIMITS), b"a LOGIN {" + b"9" * 500 + b"}\r\n")
    assert isinstance(found, Frame)


def test_an_oversize_literal_that_does_not_wait_is_dropped_and_the_next_command_is_read() -> None:
    found = steps(Framer(LIMITS), b"a X {150+}\r\n" + b"z" * 150 + b" Y {3+}\r\nabc\r\nb NOOP\r\n")
    assert [type(step) for step in found] == [Oversize, Frame]
    assert found[1] == Frame(b"b NOOP\r\n", ())


def test_many_small_literals_count_together() -> None:
    found = steps(Framer(LIMITS), b"a X" + b" {30+}\r\n" + b"z" * 30 + b" {80+}\r\n" + b"z" * 80 + b"\r\n")
    assert [type(step) for step in found] == [Oversize]


def test_append_has_its_own_limit_but_only_after_log_in() -> None:
    head = b"a APPEND INBOX {1500}\r\n"
    assert isinstance(steps(Framer(LIMITS), head)[0], Oversize)
    framer = Framer(LIMITS)
    framer.appends = True
    assert steps(framer, head) == [Continuation(1500)]
    framer = Framer(LIMITS)
    framer.appends = True
    (found,) = steps(framer, b"a APPEND INBOX {2001}\r\n")
    assert isinstance(found, Oversize)
    assert not found.fatal


@pytest.mark.parametrize("line", [b"a " + b"x" * 2000, b"a " + b"x" * 2000 + b"\r\n", b"x" * 2000])
def test_an_over_long_line_is_fatal_whether_or_not_it_ends(line: bytes) -> None:
    (found,) = steps(Framer(LIMITS), line)
    assert isinstance(found, Oversize)
    assert found.fatal
    assert found.tag in (b"a", b"*")


def test_a_bare_line_is_given_without_its_end_and_without_looking_for_literals() -> None:
    framer = Framer(LIMITS)
    framer.feed(b"abc {3}\r\nDONE\r\n")
    assert framer.next_line() == b"abc {3}"
    assert framer.next_line() == b"DONE"
    assert framer.next_line() is NEED_MORE


STREAM_PIECES = st.sampled_from(
    [
        b"a NOOP\r\n",
        b"b X {5}\r\nhello\r\n",
        b"c X {3+}\r\n\r\n\n {0+}\r\n\r\n",
        b"\r\n",
        b"d {101}\r\n",
        b"e X {120+}\r\n" + b"e" * 120 + b"\r\n",
        b"f {2+}\nxy\n",
        b"{",
        b"}\r\n",
        b"\x00\xff",
        b"g APPEND i {1500+}\r\n",
    ]
)


@given(st.lists(STREAM_PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 400), max_size=6))
def test_where_the_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(at)]
    assert steps(Framer(LIMITS), *pieces) == steps(Framer(LIMITS), stream)


@given(st.lists(STREAM_PIECES, max_size=6).map(b"".join))
def test_a_stream_that_comes_byte_by_byte_gives_the_same(stream: bytes) -> None:
    assert steps(Framer(LIMITS), *(stream[i : i + 1] for i in range(len(stream)))) == steps(Framer(LIMITS), stream)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_random_bytes_never_hang_or_hold_more_than_the_limits(pieces: list[bytes]) -> None:
    framer = Framer(LIMITS)
    steps(framer, *pieces)
    assert framer.buffered <= LIMITS.line + LIMITS.append + 80
