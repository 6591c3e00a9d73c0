"""Base subjects: each step of RFC 5256 2.1, and that no subject takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.mime.subject import base_subject


@pytest.mark.parametrize(
    ("subject", "base", "is_reply"),
    [
        ("Hello", "Hello", False),
        ("  Hello\t\tworld\r\n again ", "Hello world again", False),  # step 1
        ("Hello (fwd)", "Hello", True),  # step 2
        ("Hello (FWD) (fwd)  ", "Hello", True),
        ("Re: Hello", "Hello", True),  # step 3
        ("RE : Hello", "Hello", True),
        ("Fw: Hello", "Hello", True),
        ("fwd: Hello", "Hello", True),
        ("Re[2]: Hello", "Hello", True),
        ("[list] Re: Hello", "Hello", True),
        ("[a] [b] Re: Hello", "Hello", True),
        ("[list] Hello", "Hello", False),  # step 4
        ("[list]", "[list]", False),
        ("Re: [list] fwd: [x] Re: Hello", "Hello", True),  # step 5
        ("Re: [list]", "[list]", True),
        ("[fwd: Hello]", "Hello", True),  # step 6
        ("Re: [Fwd: Re: Hello (fwd)]", "Hello", True),
        ("[fwd: Hello", "[fwd: Hello", False),
        ("Regarding: Hello", "Regarding: Hello", False),
        ("Re:", "", True),
        ("", "", False),
        ("(fwd)", "", True),
    ],
)
def test_the_base_of_a_subject(subject: str, base: str, is_reply: bool) -> None:
    assert base_subject(subject) == (base, is_reply)


PIECES = st.sampled_from(["re:", "Fwd:", "[", "]", "[x]", "(fwd)", " ", "[fwd:", "a", ":", "\t"])


@given(st.lists(PIECES, max_size=30).map("".join))
def test_a_base_has_none_left_to_take_away(subject: str) -> None:
    base, _ = base_subject(subject)
    assert base_subject(base)[0] == base
    assert base_subject("Re: " + subject)[0] == base


@pytest.mark.parametrize("piece", ["[", "[] ", "[x] ", "re:", "re[", "(fwd", "(fwd) ", "[fwd:", " "])
def test_a_subject_of_nothing_but_marks_is_read_at_once(piece: str) -> None:
    started_s = time.process_time()
    base_subject(piece * 100_000 + "]" * 1000)
    assert time.process_time() - started_s < 1
