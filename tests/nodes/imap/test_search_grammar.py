"""Commands of searching as clients write them: the examples of their RFCs, round trips, and what is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.framing import NEED_MORE, Frame, Framer, Limits
from nodes.imap.grammar import read_command, read_tag
from nodes.imap.search import All, And, HasFlag, HeaderHas, Key, ModSeq, Not, Numbers, Or, Size, TextHas, Within
from nodes.imap.search_commands import MultiSearch, Returned, Search, Sort, SortKey, Sources, Thread
from nodes.imap.sequence import SequenceSet
from tests.nodes.imap.test_grammar import SETS, TEXTS, parse, wire_string

DELETED = HasFlag("\\deleted")
DOLLAR = SequenceSet((), saved=True)


def returned(*options: str, partial: tuple[int, int] | None = None) -> Returned:
    return Returned(frozenset(options), partial)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # RFC 4731 3.1, 3.2
        (
            b"A282 SEARCH RETURN (MIN COUNT) FLAGGED",
            Search(HasFlag("\\flagged"), False, returned("MIN", "COUNT"), b"A282"),
        ),
        (b"A283 SEARCH RETURN () FLAGGED", Search(HasFlag("\\flagged"), False, returned("ALL"), b"A283")),
        (b"A SEARCH FLAGGED", Search(HasFlag("\\flagged"), False, None, b"A")),
        # RFC 5182 2.3
        (b"A282 SEARCH RETURN (SAVE) DELETED", Search(DELETED, False, returned("SAVE"), b"A282")),
        (
            b"A UID SEARCH UID $ SMALLER 4096",
            Search(And((Numbers(DOLLAR, True), Size("smaller", 4096))), True, None, b"A"),
        ),
        (b"A SEARCH RETURN (SAVE) $", Search(Numbers(DOLLAR, False), False, returned("SAVE"), b"A")),
        # RFC 5032 4
        (
            b"a1 SEARCH UNSEEN YOUNGER 259200",
            Search(And((Not(HasFlag("\\seen")), Within("younger", 259200))), False, None, b"a1"),
        ),
        # RFC 7162 3.1.5
        (b"a SEARCH MODSEQ 620162338", Search(ModSeq(620162338), False, None, b"a")),
        (b'a SEARCH MODSEQ "/flags/\\\\draft" all 620162338', Search(ModSeq(620162338), False, None, b"a")),
        # RFC 9394 3.1
        (
            b"A01 UID SEARCH RETURN (PARTIAL -1:-100) UNDELETED",
            Search(Not(DELETED), True, returned(partial=(-1, -100)), b"A01"),
        ),
        (
            b"A02 UID SEARCH RETURN (COUNT PARTIAL 100:1) ALL",
            Search(All(), True, returned("COUNT", partial=(100, 1)), b"A02"),
        ),
        # RFC 5256 3
        (
            b'A282 SORT (SUBJECT) UTF-8 FROM "Smith"',
            Sort((SortKey("SUBJECT"),), HeaderHas(b"from", "smith"), False, None, b"A282"),
        ),
        (
            b"A283 UID SORT (SUBJECT REVERSE DATE) US-ASCII ALL",
            Sort((SortKey("SUBJECT"), SortKey("DATE", True)), All(), True, None, b"A283"),
        ),
        (b'A284 THREAD REFERENCES US-ASCII TEXT "gewp"', Thread("REFERENCES", TextHas("gewp", True), False)),
        (b"A UID THREAD orderedsubject utf-8 ALL", Thread("ORDEREDSUBJECT", All(), True)),
        # RFC 5957 3, RFC 5267 3.1
        (
            b"A SORT RETURN (MIN COUNT) (REVERSE DISPLAYFROM) UTF-8 ALL",
            Sort((SortKey("DISPLAYFROM", True),), All(), False, returned("MIN", "COUNT"), b"A"),
        ),
        # RFC 7377 2.1
        (
            b'tag1 ESEARCH IN (mailboxes "folder1" subtree "folder2") unseen',
            MultiSearch(
                (Sources("mailboxes", ("folder1",)), Sources("subtree", ("folder2",))),
                Not(HasFlag("\\seen")),
                returned("ALL"),
                b"tag1",
            ),
        ),
        (
            b'tag2 ESEARCH IN (mailboxes "folder1" subtree-one ("folder2" a)) RETURN (COUNT) subject "chad"',
            MultiSearch(
                (Sources("mailboxes", ("folder1",)), Sources("subtree-one", ("folder2", "a"))),
                HeaderHas(b"subject", "chad"),
                returned("COUNT"),
                b"tag2",
            ),
        ),
        (
            b"t ESEARCH 1:3",
            MultiSearch((Sources("selected"),), Numbers(SequenceSet(((1, 3),)), False), returned("ALL"), b"t"),
        ),
    ],
)
def test_a_command_of_searching_is_read(text: bytes, expected: Command) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"SEARCH RETURN (FROB) ALL",
        b"SEARCH RETURN (MIN MAX ALL",
        b"SEARCH RETURN ALL",
        b"SEARCH RETURN (PARTIAL 0:1) ALL",
        b"SEARCH RETURN (PARTIAL 1:-1) ALL",
        b"SEARCH RETURN (PARTIAL 1) ALL",
        b"SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        b"SEARCH RETURN (PARTIAL 1:2 ALL) ALL",
        b"SEARCH OLDER 0",
        b"SEARCH MODSEQ 9223372036854775808",
        b'SEARCH MODSEQ "/flags/x" mine 1',
        b"SEARCH 1,$",
        b"SORT SUBJECT UTF-8 ALL",
        b"SORT () UTF-8 ALL",
        b"SORT (REVERSE) UTF-8 ALL",
        b"SORT (WEIGHT) UTF-8 ALL",
        b"SORT (SUBJECT) UTF-8",
        b"THREAD JWZ UTF-8 ALL",
        b"THREAD REFERENCES UTF-8",
        b"ESEARCH IN () ALL",
        b"ESEARCH IN (frob) ALL",
        b"ESEARCH IN (mailboxes) ALL",
        b"ESEARCH IN (personal (depth 1)) ALL",
        b"ESEARCH IN (personal) 1:5",
        b"ESEARCH IN (personal) UID $",
        b"ESEARCH IN (personal) RETURN (SAVE) ALL",
    ],
)
def test_what_is_no_command_of_searching_is_bad(text: bytes) -> None:
    with pytest.raises(BadCommand):
        parse(b"a " + text)


@pytest.mark.parametrize("text", [b"SORT (SUBJECT) KOI8-R ALL", b"THREAD REFERENCES X ALL", b"SEARCH CHARSET X ALL"])
def test_a_charset_that_is_not_known_is_answered_with_those_that_are(text: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(b"a " + text)
    assert caught.value.code == "BADCHARSET (US-ASCII UTF-8)"


@pytest.mark.parametrize(
    "text",
    [
        b"SORT (" + b" ".join([b"SUBJECT"] * 100) + b") UTF-8 ALL",
        b"ESEARCH IN (mailboxes (" + b" ".join([b"a"] * 1000) + b")) ALL",
        b"SEARCH " + b" ".join([b"SUBJECT a"] * 2000),
        b"SEARCH " + b"OR SEEN " * 2000 + b"ALL",
    ],
)
def test_what_is_too_much_is_refused_with_a_limit(text: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(b"a " + text)
    assert caught.value.code == "LIMIT"


# -- round trips

LEAVES = st.one_of(
    st.sampled_from([All(), HasFlag("\\seen"), HasFlag("$junk")]),
    st.builds(Numbers, SETS, st.booleans()),
    st.builds(Size, st.sampled_from(["larger", "smaller"]), st.integers(0, 2**32 - 1)),
    st.builds(Within, st.sampled_from(["older", "younger"]), st.integers(1, 2**32 - 1)),
    st.builds(ModSeq, st.integers(0, 2**63 - 1)),
    st.builds(TextHas, TEXTS.map(str.casefold), st.booleans()),
)
KEYS: st.SearchStrategy[Key] = st.recursive(
    LEAVES, lambda keys: st.one_of(st.builds(Not, keys), st.builds(Or, keys, keys)), max_leaves=8
)


def wire_key(key: Key, style: int) -> bytes:
    """A key as a client might write it."""
    match key:
        case HasFlag(flag="\\seen"):
            return b"SEEN"
        case HasFlag(flag=flag):
            return b"KEYWORD " + flag.encode()
        case Numbers(numbers=numbers, by_uid=by_uid):
            return (b"UID " if by_uid else b"") + str(numbers).encode()
        case Size(relation=relation, size_bytes=size):
            return f"{relation} {size}".encode()
        case Within(relation=within, interval_s=interval_s):
            return f"{within} {interval_s}".encode()
        case ModSeq(least=least):
            return b"modseq %d" % least
        case TextHas(text=text, headers=headers):
            return (b"TEXT " if headers else b"BODY ") + wire_string(text.encode(), style)
        case Not(key=inner):
            return b"NOT (" + wire_key(inner, style) + b")"
        case Or(first=first, second=second):
            return b"OR " + wire_key(first, style) + b" (" + wire_key(second, style) + b")"
        case _:
            return b"ALL"


def like(key: Key) -> object:
    """What stays of a key in a round trip: a set may be written in more than one way, a text is folded."""
    match key:
        case Numbers(numbers=numbers, by_uid=by_uid):
            return (str(numbers), by_uid)
        case TextHas(headers=headers):
            return ("text", headers)
        case Not(key=inner):
            return ("not", like(inner))
        case Or(first=first, second=second):
            return ("or", like(first), like(second))
        case _:
            return key


@given(KEYS, st.integers(0, 2), st.booleans())
def test_a_program_comes_back(key: Key, style: int, by_uid: bool) -> None:
    command = parse(b"a " + (b"UID " if by_uid else b"") + b"SEARCH " + wire_key(key, style))
    assert isinstance(command, Search)
    assert like(command.program) == like(key)
    assert command.by_uid == by_uid


OPTIONS = st.frozensets(st.sampled_from(["MIN", "MAX", "COUNT", "SAVE"]), max_size=4)
PARTIALS = st.none() | st.tuples(st.integers(1, 2**31), st.integers(1, 2**31), st.sampled_from([1, -1])).map(
    lambda p: (p[0] * p[2], p[1] * p[2])
)
SORTED_BY = st.lists(
    st.builds(SortKey, st.sampled_from(["ARRIVAL", "CC", "SIZE", "DISPLAYTO"]), st.booleans()), min_size=1, max_size=5
)


@given(OPTIONS, PARTIALS, SORTED_BY)
def test_what_a_sort_asks_for_comes_back(
    options: frozenset[str], partial: tuple[int, int] | None, keys: list[SortKey]
) -> None:
    words = [*options] + ([f"PARTIAL {partial[0]}:{partial[1]}"] if partial else [])
    criteria = " ".join(("REVERSE " if key.reverse else "") + key.by for key in keys)
    command = parse(f"t7 SORT RETURN ({' '.join(words)}) ({criteria}) UTF-8 ALL".encode())
    assert isinstance(command, Sort)
    assert command.keys == tuple(keys)
    assert command.tag == b"t7"
    assert command.returned == Returned(options if words else frozenset({"ALL"}), partial)  # type: ignore[arg-type]


WORDS = st.sampled_from(
    b"SEARCH SORT THREAD ESEARCH UID RETURN RETURN( ( ) () (MIN) PARTIAL 1:2 -1:-2 0 ALL COUNT SAVE $ IN personal "
    b'mailboxes subtree (SUBJECT) REVERSE UTF-8 CHARSET REFERENCES NOT OR OLDER MODSEQ " a {1+}\r\nx'.split(b" ")
)


@given(st.lists(WORDS, max_size=12).map(b" ".join))
def test_words_of_searching_in_any_order_are_a_command_or_a_refusal(text: bytes) -> None:
    framer = Framer(Limits())
    framer.feed(b"a " + text + b"\r\n")
    while (step := framer.next_frame()) is not NEED_MORE:
        if isinstance(step, Frame) and (tag := read_tag(step.text)) is not None:
            with contextlib.suppress(Refusal):
                read_command(Cursor(step), tag)
