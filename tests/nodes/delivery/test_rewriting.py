"""SRS: what is returned to an address that we made reaches the sender, and no other address is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.names import normalise_address, written
from nodes.delivery.rewriting import VALID_DAYS, Srs
from nodes.smtp.grammar import parse_rcpt

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
DAY = 20_000
SRS = Srs(KEY, DAY)
LOCAL = st.text("abcXYZ.+-=_019", min_size=1, max_size=40)
HOST = st.from_regex(r"[a-z]{1,10}\.test", fullmatch=True)


@given(LOCAL, HOST)
def test_the_sender_is_found_again(local: str, host: str) -> None:
    forwarded = SRS.forward(f"{local}@{host}", "ours.test")
    back, _, domain = forwarded.rpartition("@")
    assert domain == "ours.test"
    if not local.upper().startswith(("SRS0", "SRS1")):
        assert SRS.reverse(back) == written(f"{local}@{host}")


@pytest.mark.parametrize(
    ("sender", "forwarded"),
    [
        ('"a b"@home.test', '"SRS0={}=home.test=a b"@ours.test'),
        ('"a\\"b"@home.test', '"SRS0={}=home.test=a\\"b"@ours.test'),
        ('"a@b"@home.test', '"SRS0={}=home.test=a@b"@ours.test'),
        ('"ab"@home.test', "SRS0={}=home.test=ab@ours.test"),
    ],
)
def test_a_quoted_local_part_is_quoted_as_a_whole_and_found_again(sender: str, forwarded: str) -> None:
    found = SRS.forward(sender, "ours.test")
    before, after = forwarded.split("{}")
    assert (found.startswith(before), found.endswith(after)) == (True, True), found
    parse_rcpt(f"TO:<{found}>".encode(), frozenset())
    back = SRS.reverse(found.rpartition("@")[0])
    assert back is not None
    assert normalise_address(back) == normalise_address(sender)
    assert parse_rcpt(f"TO:<{back}>".encode(), frozenset()).address == back


def test_a_second_forwarder_leads_to_the_first_and_a_third_does_not_make_the_address_longer() -> None:
    first = Srs(b"1" * 32, DAY).forward("alice@home.test", "first.test")
    second = Srs(b"2" * 32, DAY).forward(first, "second.test")
    third = SRS.forward(second, "third.test")
    assert second.startswith("SRS1=")
    assert third.count("=") == second.count("=")
    for srs, address in ((SRS, third), (Srs(b"2" * 32, DAY), second)):
        assert srs.reverse(address.rpartition("@")[0]) == first
    assert Srs(b"1" * 32, DAY).reverse(first.rpartition("@")[0]) == "alice@home.test"


def test_mail_from_nobody_stays_from_nobody() -> None:
    assert SRS.forward("", "ours.test") == ""


def test_an_address_is_good_for_three_weeks() -> None:
    local = SRS.forward("alice@home.test", "ours.test").rpartition("@")[0]
    assert Srs(KEY, DAY + VALID_DAYS).reverse(local) == "alice@home.test"
    assert Srs(KEY, DAY + VALID_DAYS + 1).reverse(local) is None
    assert Srs(KEY, DAY - 2).reverse(local) is None


def test_a_server_may_have_changed_the_case_of_letters() -> None:
    local = SRS.forward("alice@home.test", "ours.test").rpartition("@")[0]
    assert SRS.reverse(local.upper()) == "ALICE@HOME.TEST"


@pytest.mark.parametrize(
    "local",
    [
        "alice",
        "SRS0",
        "SRS0=",
        "SRS0=aaaaaaaa=aa=home.test=alice",
        "SRS1=aaaaaaaa=home.test==x",
        "srs0=x=y",
        "SRS2=a=b",
    ],
)
def test_what_we_did_not_make_leads_nowhere(local: str) -> None:
    assert SRS.reverse(local) is None


@given(st.text(max_size=60))
def test_a_key_of_another_cell_makes_nothing_that_is_believed_here(user: str) -> None:
    local = Srs(OTHER_KEY, DAY).forward(f"{user}@home.test", "ours.test").rpartition("@")[0]
    assert SRS.reverse(local) is None


def test_nobody_can_have_an_address_of_ours_made_that_leads_where_they_say() -> None:
    stamp = SRS.forward("alice@home.test", "ours.test").split("=")[2]
    made = SRS.forward(f"SRS1=x={stamp}=victim.test=user@attacker.test", "ours.test").rpartition("@")[0]
    assert made.startswith("SRS1=")
    assert SRS.reverse("SRS0" + made[4:]) is None
