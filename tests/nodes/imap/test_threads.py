"""The threading algorithms (RFC 5256 3), step by step, and what they write."""

import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.imap.sort_keys import SortKeys, sort_keys
from nodes.imap.threads import Node, Threaded, ordered_subject, references, response


class M(NamedTuple):
    """A message by what it is threaded by; its date is its number unless told."""

    number: int
    id: str = ""
    refers: str = ""
    subject: str = ""
    date: int = 0
    reply_to: str = ""


def threaded(*messages: M) -> list[Threaded]:
    def ids(text: str) -> str:
        return " ".join(f"<{one}@x>" for one in text.split())

    found = []
    for m in messages:
        keys = sort_keys(
            f"Message-ID: {ids(m.id)}\r\nReferences: {ids(m.refers)}\r\nIn-Reply-To: {ids(m.reply_to)}\r\n"
            f"Subject: {m.subject}\r\n\r\n".encode()
        )
        found.append(Threaded(m.number, (m.date or m.number) * 1000, keys))
    return found


def by_references(*messages: M) -> str:
    return response(references(threaded(*messages))).decode()


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((), ""),
        ((M(1, "a"),), "(1)"),
        ((M(1, "a"), M(2, "b", "a"), M(3, "c", "a b")), "(1 2 3)"),
        ((M(1, "a"), M(2, "b", "a"), M(3, "c", "a")), "(1 (2)(3))"),
        ((M(3, "a"), M(6, "b", "a"), M(4, "c", "a b"), M(23, "d", "a b c"), M(44, "e", "a b"), M(7, "f", "a b e"),
          M(96, "g", "a b e f")), "(3 6 (4 23)(44 7 96))"),  # RFC 5256 4
        ((M(2, "b", "a"), M(1, "a")), "(1 2)"),  # the parent comes later
        ((M(1, "b", "gone"), M(2, "c", "gone")), "((1)(2))"),  # RFC 5256 4: the parent is not there
        ((M(1, "b", "gone"),), "(1)"),
        ((M(1, "c", "gone1 gone2"), M(2, "d", "gone1 gone3")), "((1)(2))"),
        ((M(1, "a"), M(2, "b", "", "", 0, "a c")), "(1 2)"),  # In-Reply-To where there are no References
        ((M(1, "a", "b"), M(2, "b", "a")), "(2 1)"),  # a loop: what was found first holds
        ((M(1, "a", "a"),), "(1)"),
        ((M(1, "a"), M(2, "a"), M(3, "b", "a")), "(1 3)(2)"),  # an id that another has
        ((M(1), M(2)), "(1)(2)"),
        ((M(1, "a"), M(2, "b", date=1), M(3, "c", "a", date=1)), "(1 3)(2)"),
        ((M(9, "a", date=5), M(3, "b", date=7), M(4, "c", "a", date=9), M(5, "d", "a", date=8)), "(9 (5)(4))(3)"),
        ((M(1, "c", "a b"), M(2, "b", "x")), "(2 1)"),  # b's own header knows better than a guess of another
    ],
)  # fmt: skip
def test_references(messages: tuple[M, ...], expected: str) -> None:
    assert by_references(*messages) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((M(1, "a", subject="x"), M(2, "b", subject="Re: x")), "(1 2)"),  # a reply joins what it replies to
        ((M(1, "a", subject="Re: x"), M(2, "b", subject="x")), "(2 1)"),
        ((M(1, "a", subject="x"), M(2, "b", subject="x")), "((1)(2))"),
        ((M(1, "a", subject="Re: x"), M(2, "b", subject="Re: x")), "((1)(2))"),
        ((M(1, "a", subject="x"), M(2, "b", subject="x"), M(3, "c", subject="X")), "((1)(2)(3))"),
        ((M(1, "a", subject=""), M(2, "b", subject="Re:")), "(1)(2)"),  # no subject, nothing in common
        ((M(1, "a", "gone", "x"), M(2, "b", "gone", "x"), M(3, "c", "", "x")), "((1)(2)(3))"),
        ((M(3, "c", "", "x"), M(4, "a", "gone", "x"), M(5, "b", "gone", "x")), "((3)(4)(5))"),
        ((M(1, "a", "gone", "x"), M(2, "b", "gone", "x"), M(3, "c", "gone2", "x"), M(4, "d", "gone2", "x")),
         "((1)(2)(3)(4))"),
    ],
)  # fmt: skip
def test_references_5_threads_of_one_base_subject_are_one(messages: tuple[M, ...], expected: str) -> None:
    assert by_references(*messages) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((M(1, subject="a"), M(2, subject="b")), "(1)(2)"),
        ((M(1, subject="a"), M(2, subject="Re: A")), "(1 2)"),
        ((M(1, subject="a"), M(2, subject="re: a"), M(3, subject="[x] a")), "(1 (2)(3))"),
        ((M(1, subject="b", date=9), M(2, subject="a", date=8), M(3, subject="b", date=7)), "(3 1)(2)"),
    ],
)
def test_ordered_subject_has_children_and_no_grandchildren(messages: tuple[M, ...], expected: str) -> None:
    assert response(ordered_subject(threaded(*messages))).decode() == expected


def numbers_in(roots: list[Node]) -> list[int]:
    found, stack = [], list(roots)
    while stack:
        node = stack.pop()
        stack += node.children
        if node.message is not None:
            found.append(node.message.number)
    return sorted(found)


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from("abcdef "),
        st.lists(st.sampled_from("abcdefxyz"), max_size=4).map(" ".join),
        st.sampled_from(["", "s", "Re: s", "t", "Fwd: t"]),
        st.integers(1, 5),
    ),
    max_size=12,
)


@given(MESSAGES)
def test_each_message_is_in_one_thread_whatever_it_refers_to(made: list[tuple[str, str, str, int]]) -> None:
    messages = threaded(
        *(M(n, id_.strip(), refers, subject, date) for n, (id_, refers, subject, date) in enumerate(made, 1))
    )
    for algorithm in (references, ordered_subject):
        roots = algorithm(messages)
        assert numbers_in(roots) == [one.number for one in messages]
        text = response(roots)
        assert text.count(b"(") == text.count(b")")
        assert sorted(map(int, text.replace(b"(", b" ").replace(b")", b" ").split())) == [m.number for m in messages]


def test_a_thread_may_be_as_deep_as_there_are_messages() -> None:
    empty = sort_keys(b"")
    chain = [
        Threaded(n, n, SortKeys(*empty[:-2], b"%d@x" % n, (b"%d@x" % (n - 1),) if n > 1 else ()))
        for n in range(1, 3001)
    ]
    started_s = time.process_time()
    text = response(references(chain))
    assert text == b"(" + b" ".join(b"%d" % n for n in range(1, 3001)) + b")"
    assert time.process_time() - started_s < 10
