"""Address lists: RFC 5322's examples, groups, and what real mail gets wrong."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.mime.addresses import Address, _addresses, addresses


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@x.org", [(None, None, b"a", b"x.org")]),
        (b"<a@x.org>", [(None, None, b"a", b"x.org")]),
        (b"A B <a@x.org>, c@y.org", [(b"A B", None, b"a", b"x.org"), (None, None, b"c", b"y.org")]),
        (b'"Giant; \\"Big\\" Box" <s@x.net>', [(b'Giant; "Big" Box', None, b"s", b"x.net")]),
        (b'"Joe Q. Public" <john.q.public@example.com>', [(b"Joe Q. Public", None, b"john.q.public", b"example.com")]),
        (b"sysservices@example.net (Sys Admin)", [(b"Sys Admin", None, b"sysservices", b"example.net")]),
        (
            b"Pete(A wonderful \\) chap) <pete(his account)@silly.test(his host)>",
            [(b"Pete", None, b"pete", b"silly.test")],
        ),
        (b"<@node1,@node2:joe@x.org>", [(None, b"@node1,@node2", b"joe", b"x.org")]),
        (b'"quoted local"@x.org', [(None, None, b"quoted local", b"x.org")]),
        (b"a@[127.0.0.1]", [(None, None, b"a", b"[127.0.0.1]")]),
        (b"jdoe@machine . example", [(None, None, b"jdoe", b"machine.example")]),
        (b"=?utf-8?q?J=C3=BCrgen?= <j@x.org>", [(b"=?utf-8?q?J=C3=BCrgen?=", None, b"j", b"x.org")]),
        (b"J\xc3\xbcrgen <j@x.org>", [(b"J\xc3\xbcrgen", None, b"j", b"x.org")]),
        (b", a@x.org,, b@x.org,", [(None, None, b"a", b"x.org"), (None, None, b"b", b"x.org")]),
        (b"no brackets", [(None, None, b"no brackets", b"")]),
        (b"A <a@x.org", [(b"A", None, b"a", b"x.org")]),
        (b"", []),
        (b"<>", []),
    ],
)
def test_an_address_list_is_read(value: bytes, expected: list[tuple[bytes | None, ...]]) -> None:
    assert [tuple(address) for address in addresses(value)] == expected


def test_a_group_has_a_begin_and_an_end() -> None:
    found = addresses(b"A Group:Ed Jones <c@a.test>,joe@where.test;, other@x.org")
    assert found == [
        Address(None, None, b"A Group", None),
        Address(b"Ed Jones", None, b"c", b"a.test"),
        Address(None, None, b"joe", b"where.test"),
        Address(None, None, None, None),
        Address(None, None, b"other", b"x.org"),
    ]


def test_an_empty_group_and_one_that_is_never_closed_are_closed() -> None:
    assert addresses(b"Undisclosed recipients:;") == [
        Address(None, None, b"Undisclosed recipients", None),
        Address(None, None, None, None),
    ]
    assert addresses(b"G: a@x.org")[-1] == Address(None, None, None, None)


@given(st.text(alphabet='ab@<>,;:"()\\[]. \t=?\u00fc').map(str.encode))
def test_no_input_raises_and_groups_are_balanced(value: bytes) -> None:
    depth = 0
    for address in addresses(value):
        if address.host is None:
            depth += 1 if address.mailbox is not None else -1
        assert depth in (0, 1)
    assert depth == 0


PIECES = st.sampled_from(
    ['"', "<", ">", "@", ",", " ", "  ", "\t", "a", "b.c", "\u00fc", "=?", "(", ")", "\\", ":", ";", "["]
)
USUAL = st.sampled_from(
    ["a@b", "<a@b>", "A <a@b>", "A B<a@b>", '"A, B" <a@b>', '" A" <a@b>', "A@B <a@b>", "A  B <a@b>"]
)


@settings(max_examples=500)
@given(st.lists(PIECES | USUAL, max_size=12).map("".join) | st.lists(USUAL, max_size=4).map(", ".join))
def test_what_is_written_as_usual_is_read_as_everything_else_is(value: str) -> None:
    assert addresses(value.encode()) == _addresses(value.encode())


@pytest.mark.parametrize("unit", [b"(", b'"', b"<", b'\\"', b"[", b"a ", b"@", b":", b"(\\"])
def test_hostile_repetition_costs_no_more_than_its_length(unit: bytes) -> None:
    start = time.process_time()
    addresses(unit * (100_000 // len(unit)))
    assert time.process_time() - start < 3
