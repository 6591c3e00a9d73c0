"""Header blocks: where they end, which fields they have, and the lines that are picked from them."""

from hypothesis import given
from hypothesis import strategies as st

from nodes.mime import header

LINES = st.lists(
    st.sampled_from(
        [
            b"Subject: a\r\n",
            b"subject : b\n",
            b" folded\r\n",
            b"\tfolded\n",
            b"To:c\r\n",
            b"no colon\r\n",
            b": x\n",
            b"X\r\n",
        ]
    )
).map(b"".join)


def names(data: bytes) -> list[bytes]:
    return [field.name for field in header.fields(data, 0, len(data))]


def test_a_header_ends_after_the_first_empty_line() -> None:
    data = b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\nmore"
    assert data[header.header_end(data, 0, len(data)) :] == b"body\r\n\r\nmore"


def test_a_header_may_end_with_a_bare_line_feed_even_when_a_crlf_pair_comes_later() -> None:
    data = b"A: 1\n\nbody\r\n\r\nmore"
    assert data[header.header_end(data, 0, len(data)) :] == b"body\r\n\r\nmore"


def test_an_empty_line_at_the_start_is_an_empty_header() -> None:
    assert header.header_end(b"\r\nbody", 0, 6) == 2
    assert header.header_end(b"\nbody", 0, 5) == 1


def test_a_header_without_an_empty_line_is_the_whole_message() -> None:
    assert header.header_end(b"A: 1\r\nB: 2", 0, 10) == 10


def test_the_end_is_looked_for_only_inside_the_range() -> None:
    data = b"A: 1\r\n\r\nB: 2\r\n\r\n"
    assert header.header_end(data, 0, 7) == 7
    assert header.header_end(data, 8, len(data)) == len(data)


def test_folded_lines_belong_to_their_field_and_are_unfolded_in_its_value() -> None:
    data = b"Subject: one\r\n two\r\n\tthree\r\nTo: x\r\n"
    found = header.fields(data, 0, len(data))
    assert [field.name for field in found] == [b"subject", b"to"]
    assert header.value_of(data, found[0]) == b"one two\tthree"


def test_a_line_without_a_colon_belongs_to_no_field() -> None:
    assert names(b"From someone\r\nA: 1\r\ngarbage\r\nB: 2\r\n") == [b"a", b"b"]


def test_blanks_before_the_colon_are_not_part_of_the_name() -> None:
    assert names(b"Subject \t: x\r\n") == [b"subject"]


@given(LINES, st.frozensets(st.sampled_from([b"subject", b"to", b"x", b"a.b"])))
def test_picking_lines_by_one_pattern_gives_what_going_through_the_fields_gives(
    data: bytes, wanted: frozenset[bytes]
) -> None:
    slow = b"".join(data[f.start : f.end] for f in header.fields(data, 0, len(data)) if f.name in wanted)
    assert header.selected_lines(data, 0, len(data), wanted, keep=True) == slow


@given(LINES, st.frozensets(st.sampled_from([b"subject", b"to", b"x", b"a.b"])))
def test_a_header_taken_apart_once_gives_the_same_lines(data: bytes, wanted: frozenset[bytes]) -> None:
    end = header.header_end(data, 0, len(data))
    lines = header.Lines(data, 0, end)
    assert lines.of(wanted) == header.selected_lines(data, 0, end, wanted, keep=True)
    assert lines.without(wanted) == header.selected_lines(data, 0, end, wanted, keep=False)


@given(LINES)
def test_the_lines_picked_and_the_lines_left_make_up_the_header(data: bytes) -> None:
    wanted = frozenset({b"subject"})
    end = header.header_end(data, 0, len(data))
    picked = header.selected_lines(data, 0, end, wanted, keep=True)
    left = header.selected_lines(data, 0, end, wanted, keep=False)
    *_, last = [b"", *data[:end].splitlines(keepends=True)]
    assert len(picked) + len(left) == end - (len(last) if last in (b"\n", b"\r\n") else 0)


@given(st.binary(max_size=300))
def test_any_bytes_have_a_header_end_within_them_and_fields_before_it(data: bytes) -> None:
    end = header.header_end(data, 0, len(data))
    assert 0 <= end <= len(data)
    assert all(0 <= f.start < f.value <= f.end <= end for f in header.fields(data, 0, end))
