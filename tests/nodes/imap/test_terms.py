"""Small parts: sequence sets, modified UTF-7, strings, flags, dates, states, errors."""

from array import array
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import CommandRefused, OverQuota
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.config.imap import Withheld
from nodes.imap import capability, commands, render, utf7
from nodes.imap.errors import Farewell, Refusal, refusal_of
from nodes.imap.sequence import NUMBER_LIMIT, STAR, SequenceSet, compact, uids_of_sequence_numbers, uids_of_uids
from nodes.imap.states import LEGAL, State, is_legal, may_announce_expunges

EVERY_MESSAGE = SequenceSet(((1, STAR),))


# -- sequence sets


def test_ranges_run_either_way_and_overlaps_count_once() -> None:
    assert SequenceSet(((5, 3), (4, 7), (9, 9))).spans(20) == [(3, 7), (9, 9)]


def test_star_is_the_largest_number_even_when_the_other_end_is_larger() -> None:
    assert SequenceSet(((559, STAR),)).spans(100) == [(100, 559)]


def test_a_sequence_number_that_no_message_has_is_an_error() -> None:
    uids = array("I", [10, 20, 30])
    assert uids_of_sequence_numbers(SequenceSet(((2, 3),)), uids) == array("I", [20, 30])
    assert uids_of_sequence_numbers(SequenceSet(((2, 4),)), uids) is None
    assert uids_of_sequence_numbers(SequenceSet(((STAR, STAR),)), uids) == array("I", [30])
    assert uids_of_sequence_numbers(EVERY_MESSAGE, array("I")) is None


def test_a_uid_that_no_message_has_is_ignored() -> None:
    uids = array("I", [10, 20, 30])
    assert uids_of_uids(SequenceSet(((1, 15), (25, 99))), uids) == array("I", [10, 30])
    assert uids_of_uids(SequenceSet(((559, STAR),)), uids) == array("I", [30])
    assert uids_of_uids(EVERY_MESSAGE, array("I")) == array("I")


ENDS = st.integers(0, 30)


@given(st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=6), st.sets(st.integers(1, 40)))
def test_uids_are_chosen_as_by_looking_at_each(ranges: list[tuple[int, int]], present: set[int]) -> None:
    uids = array("I", sorted(present))
    largest = uids[-1] if uids else 0
    pairs = [sorted((a or largest, b or largest)) for a, b in ranges]
    expected = [uid for uid in uids if any(first <= uid <= last for first, last in pairs)]
    assert uids_of_uids(SequenceSet(tuple(ranges)), uids).tolist() == expected


@given(st.sets(st.integers(1, 60)))
def test_a_compact_set_names_each_number_once(numbers: set[int]) -> None:
    text = compact(sorted(numbers)).decode()
    named = [
        number
        for item in filter(None, text.split(","))
        for number in range(int(item.split(":")[0]), int(item.split(":")[-1]) + 1)
    ]
    assert named == sorted(numbers)


def test_the_largest_set_costs_nothing() -> None:
    assert SequenceSet(((1, NUMBER_LIMIT),) * 1000).spans(5) == [(1, NUMBER_LIMIT)]


# -- modified UTF-7


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 5.1.3
        ("Entwürfe", b"Entw&APw-rfe"),
        ("R&D", b"R&-D"),
        ("&", b"&-"),
        ("😀", b"&2D3eAA-"),
        ("", b""),
    ],
)
def test_names_are_written_in_modified_utf_7(name: str, encoded: bytes) -> None:
    assert utf7.encode(name) == encoded
    assert utf7.decode(encoded) == name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_comes_back(name: str) -> None:
    assert utf7.decode(utf7.encode(name)) == name


@given(st.binary(max_size=30))
def test_bytes_that_no_encoder_writes_are_refused(data: bytes) -> None:
    try:
        name = utf7.decode(data)
    except ValueError:
        return
    assert utf7.encode(name) == data


# -- strings, flags, dates


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (b"plain", b'"plain"'),
        (b"", b'""'),
        (b'a"b\\c', b'"a\\"b\\\\c"'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"\xc3\xbc", b"{2}\r\n\xc3\xbc"),
        (b"a\x00b", b"{2}\r\nab"),
        (b"x" * 1001, b"{1001}\r\n" + b"x" * 1001),
    ],
)
def test_a_string_is_quoted_where_it_can_be(value: bytes, wire: bytes) -> None:
    assert render.string(value) == wire


def test_flags_and_dates_are_written_as_the_grammar_says() -> None:
    assert render.flags(("\\Seen", "$X"), recent=True) == b"(\\Seen $X \\Recent)"
    assert render.flags(()) == b"()"
    assert render.date_time(837596665000) == b'"17-Jul-1996 09:44:25 +0000"'


# -- states


def test_no_command_but_those_of_any_state_is_legal_before_log_in() -> None:
    assert is_legal(State.NOT_AUTHENTICATED, commands.Noop())
    assert is_legal(State.NOT_AUTHENTICATED, commands.Login("a", "b"))
    assert not is_legal(State.NOT_AUTHENTICATED, commands.Select("INBOX", False))


def test_log_in_happens_once_and_messages_need_a_selected_mailbox() -> None:
    assert not is_legal(State.AUTHENTICATED, commands.Login("a", "b"))
    assert not is_legal(State.AUTHENTICATED, commands.Close())
    assert is_legal(State.SELECTED, commands.Close())
    assert is_legal(State.SELECTED, commands.Select("INBOX", False))


def test_nothing_is_legal_after_log_out() -> None:
    assert not LEGAL[State.LOGOUT]


def test_expunges_are_told_except_where_numbers_are_in_play() -> None:
    everything = EVERY_MESSAGE
    assert may_announce_expunges(commands.Noop())
    assert may_announce_expunges(commands.Fetch(everything, ("UID",), True))
    assert not may_announce_expunges(commands.Fetch(everything, ("FLAGS",), False))
    assert not may_announce_expunges(commands.Store(everything, "add", (), False, False))


def test_capabilities_depend_on_the_state() -> None:
    assert capability.before_login(start_tls=True, mechanisms=()).endswith(b" STARTTLS LOGINDISABLED")
    offered = capability.before_login(start_tls=False, mechanisms=("SCRAM-SHA-256", "PLAIN"))
    assert offered.endswith(b" ID IDLE NAMESPACE LITERAL- AUTH=SCRAM-SHA-256 AUTH=PLAIN")
    assert b"APPENDLIMIT=99" in capability.after_login(append_limit_bytes=99)


def test_what_is_withheld_is_not_told() -> None:
    told = capability.after_login(append_limit_bytes=1, withheld=get_args(Withheld)).split()
    assert set(told) | {name.encode() for name in get_args(Withheld)} == set(
        capability.after_login(append_limit_bytes=1).split()
    )
    assert b"UIDONLY" not in told


# -- errors


def test_an_unknown_outcome_is_not_reported_as_a_failure() -> None:
    reply = refusal_of(OutcomeUnknown("x")).reply()
    assert reply.startswith(b"NO [UNAVAILABLE]")
    assert b"may have taken effect" in reply


def test_a_rejection_says_that_nothing_happened() -> None:
    assert refusal_of(Rejected("disk_full")).reply().startswith(b"NO [UNAVAILABLE] not done")


def test_a_refusal_has_the_code_of_its_class_and_no_line_ends() -> None:
    assert refusal_of(OverQuota("full\r\nA OK")).reply() == b"NO [OVERQUOTA] full??A OK"
    assert refusal_of(CommandRefused()).reply() == b"NO [CANNOT] CommandRefused"
    assert Refusal("x").reply() == b"NO x"
    assert Farewell("x", "UNAVAILABLE").reply() == b"* BYE [UNAVAILABLE] x\r\n"
