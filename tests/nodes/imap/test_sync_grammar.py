"""ENABLE and the parameters of RFC 7162 as clients write them, with that RFC's examples."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.imap import commands
from nodes.imap.commands import Command
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.sequence import SequenceSet
from nodes.imap.sync_commands import Enable, Resync
from tests.nodes.imap.test_grammar import numbers, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a ENABLE condstore QRESYNC", Enable(("CONDSTORE", "QRESYNC"))),
        (b"a SELECT INBOX (CONDSTORE)", commands.Select("INBOX", False, True)),
        (
            b"A02 SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
            commands.Select(
                "INBOX", False, False, Resync(67890007, 20050715194045000, numbers((41, 41), (43, 211), (214, 541)))
            ),
        ),
        (
            b"A EXAMINE x (QRESYNC (67890007 90060115194045000 41:211,214:541 (1,3 41,43)) condstore)",
            commands.Select(
                "x",
                True,
                True,
                Resync(
                    67890007,
                    90060115194045000,
                    numbers((41, 211), (214, 541)),
                    (numbers((1, 1), (3, 3)), numbers((41, 41), (43, 43))),
                ),
            ),
        ),
        (
            b"A SELECT x (QRESYNC (1 2 (1 41)))",
            commands.Select("x", False, False, Resync(1, 2, None, (numbers((1, 1)), numbers((41, 41))))),
        ),
        (
            b"s100 UID FETCH 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)",
            commands.Fetch(numbers((300, 500)), ("UID", "FLAGS", "MODSEQ"), True, 12345, True),
        ),
        (
            b"a103 UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted)",
            commands.Store(numbers((6, 6), (4, 4), (8, 8)), "add", ("\\Deleted",), True, True, 12121230045),
        ),
    ],
)
def test_a_command_is_read(text: bytes, expected: Command) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"a ENABLE",
        b"a ENABLE (X)",
        b"a SELECT x ()",
        b"a SELECT x (QRESYNC (0 1))",
        b"a SELECT x (QRESYNC (1 0))",
        b"a SELECT x (QRESYNC (1 9223372036854775808))",
        b"a SELECT x (QRESYNC (1 2 1:*))",
        b"a SELECT x (QRESYNC (1 2 (1:3 4:5)))",
        b"a SELECT x (QRESYNC (1 2 1",
        b"a FETCH 1 FLAGS (CHANGEDSINCE)",
        b"a FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)",
        b"a UID FETCH 1 FLAGS (VANISHED)",
        b"a STORE 1 (UNCHANGEDSINCE) FLAGS ()",
        b"a STORE 1 (UNCHANGEDSINCE 1)FLAGS ()",
    ],
)
def test_what_can_not_be_understood_is_bad(text: bytes) -> None:
    with pytest.raises(BadCommand):
        parse(text)


_WORDS = st.sampled_from([b"SELECT", b"x", b"(QRESYNC", b"(", b")", b"1", b"2:3", b"*", b"(CHANGEDSINCE", b"VANISHED"])


@given(st.lists(_WORDS, max_size=12).map(b" ".join))
def test_words_in_any_order_are_a_command_or_a_refusal(text: bytes) -> None:
    with contextlib.suppress(Refusal):
        parse(b"a " + text)


_PAIRS = st.tuples(st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1))


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**63 - 1), st.lists(_PAIRS, min_size=1, max_size=5).map(tuple))
def test_a_resynchronisation_comes_back(validity: int, modseq: int, known: tuple[tuple[int, int], ...]) -> None:
    uids = SequenceSet(known)
    read = parse(f"a SELECT x (QRESYNC ({validity} {modseq} {uids}))".encode())
    assert read == commands.Select("x", False, False, Resync(validity, modseq, uids))
