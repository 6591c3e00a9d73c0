"""Parameters of MAIL and RCPT, each by the section that defines it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mail_options import MailOptions, RecipientOptions
from nodes.smtp import replies, xtext
from nodes.smtp.parameters import Moment, mail_parameters, recipient_parameters
from nodes.smtp.replies import Refused

ALL = frozenset(
    ("SIZE", "BODY", "SMTPUTF8", "AUTH", "RET", "ENVID", "REQUIRETLS", "HOLDFOR", "HOLDUNTIL", "BY", "MT-PRIORITY")
)
RCPT = frozenset(("NOTIFY", "ORCPT"))
NOON_MS = 1_800_000_000_000  # 2027-01-15T08:00:00Z
MOMENT = Moment(NOON_MS, hold_s=86_400.0)


def options(rest: str) -> MailOptions:
    return mail_parameters(rest, ALL, MOMENT).options


def refused(rest: str, allowed: frozenset[str] = ALL) -> bytes:
    with pytest.raises(Refused) as refusal:
        mail_parameters(rest, allowed, MOMENT)
    return refusal.value.reply


def test_nothing_asked_for_is_no_options() -> None:
    assert mail_parameters("", ALL, MOMENT) == (0, MailOptions())


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("BODY=8bitmime", MailOptions(body="8BITMIME")),  # RFC 6152 3
        ("BODY=BINARYMIME", MailOptions(body="BINARYMIME")),  # RFC 3030 3
        ("SMTPUTF8", MailOptions(utf8=True)),  # RFC 6531 3.4
        ("REQUIRETLS", MailOptions(require_tls=True)),  # RFC 8689 2
        ("RET=hdrs ENVID=QQ314159", MailOptions(ret="HDRS", envid="QQ314159")),  # RFC 3461 10.1
        ("RET=FULL ENVID=Case+2BKept+20x", MailOptions(ret="FULL", envid="Case+Kept x")),  # RFC 3461 4.4
        ("AUTH=e+3Dmc2@example.com", MailOptions()),  # RFC 4954 5.1
        ("HOLDFOR=3600", MailOptions(hold_until_ms=NOON_MS + 3_600_000)),  # RFC 4865 4.2
        ("HOLDUNTIL=2027-01-15T09:00:00Z", MailOptions(hold_until_ms=NOON_MS + 3_600_000)),
        ("HOLDUNTIL=2027-01-15T10:00:00+01:00", MailOptions(hold_until_ms=NOON_MS + 3_600_000)),
        ("HOLDUNTIL=2026-01-01T00:00:00Z", MailOptions()),  # it has passed: nothing to wait for
        ("BY=120;R", MailOptions(deliver_by_ms=NOON_MS + 120_000, by_mode="R")),  # RFC 2852 4
        ("BY=98;NT", MailOptions(deliver_by_ms=NOON_MS + 98_000, by_mode="N", by_trace=True)),
        ("BY=-5;n", MailOptions(deliver_by_ms=NOON_MS - 5_000, by_mode="N")),
        ("MT-PRIORITY=3", MailOptions(priority=3)),  # RFC 6710 4.1
        ("MT-PRIORITY=-9", MailOptions(priority=-9)),
    ],
)
def test_a_parameter_becomes_an_option(rest: str, expected: MailOptions) -> None:
    assert options(rest) == expected


@pytest.mark.parametrize(
    "rest",
    [
        "BODY",
        "BODY=16BIT",
        "SMTPUTF8=1",
        "REQUIRETLS=YES",
        "RET=SOME",
        "RET",
        "ENVID=",
        "ENVID=a+zz",
        "ENVID=a+0A",
        "ENVID=" + "x" * 101,
        "ENVID=ä",
        "RET=FULL RET=FULL",
        "AUTH",
        "AUTH=+4",
        "HOLDFOR=-1",
        "HOLDFOR=0",
        "HOLDFOR=1234567890",
        "HOLDFOR=1h",
        "HOLDUNTIL=tomorrow",
        "HOLDUNTIL=2027-13-15T09:00:00Z",
        "HOLDUNTIL=2027-01-15T09:00:00",
        "HOLDFOR=1 HOLDUNTIL=2027-01-15T09:00:00Z",
        "BY=120",
        "BY=120;X",
        "BY=0;R",
        "BY=-1;R",
        "BY=1234567890;N",
        "MT-PRIORITY=10",
        "MT-PRIORITY=+1",
        "MT-PRIORITY=-0",
        "MT-PRIORITY",
        "=",
        "ENVID==",
    ],
)
def test_a_malformed_parameter_is_a_syntax_error(rest: str) -> None:
    assert refused(rest) == replies.BAD_SYNTAX


def test_a_message_is_not_held_longer_than_was_announced() -> None:
    assert options("HOLDFOR=86400").hold_until_ms == NOON_MS + 86_400_000
    assert refused("HOLDFOR=86401") == replies.HELD_TOO_LONG
    assert refused("HOLDUNTIL=2027-02-15T09:00:00Z") == replies.HELD_TOO_LONG


def test_a_parameter_of_an_extension_that_was_not_offered_is_unknown() -> None:
    for rest in ("HOLDFOR=1", "REQUIRETLS", "MT-PRIORITY=1", "BY=1;N", "FOO=1"):
        assert refused(rest, frozenset(("SIZE", "BODY"))) == replies.UNKNOWN_PARAMETER


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("NOTIFY=NEVER", RecipientOptions(("NEVER",))),  # RFC 3461 4.1
        ("notify=Success,failure", RecipientOptions(("SUCCESS", "FAILURE"))),
        ("ORCPT=rfc822;Bob@Example.COM", RecipientOptions((), "rfc822;Bob@Example.COM")),  # RFC 3461 4.2
        ("NOTIFY=DELAY ORCPT=rfc822;a+2Bb@x.test", RecipientOptions(("DELAY",), "rfc822;a+b@x.test")),
        ("ORCPT=utf-8;\\x{E4}@x.test", RecipientOptions((), "utf-8;ä@x.test")),  # RFC 6533 3
        ("ORCPT=utf-8;ä@x.test", RecipientOptions((), "utf-8;ä@x.test")),
    ],
)
def test_a_parameter_of_rcpt_becomes_an_option(rest: str, expected: RecipientOptions) -> None:
    assert recipient_parameters(rest, RCPT, utf8=True) == expected


@pytest.mark.parametrize(
    "rest",
    [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=SUCCESS,SUCCESS",
        "NOTIFY=SUCCESS,",
        "NOTIFY=SOMETIMES",
        "ORCPT",
        "ORCPT=bob@x.test",
        "ORCPT=rfc822;",
        "ORCPT=rfc822;a+b",
        "ORCPT=utf-8;ä@x.test",
        "ORCPT=rfc822;" + "x" * 500,
        "NOTIFY=DELAY NOTIFY=DELAY",
    ],
)
def test_a_malformed_parameter_of_rcpt_is_a_syntax_error(rest: str) -> None:
    with pytest.raises(Refused) as refusal:
        recipient_parameters(rest, RCPT, utf8=False)
    assert refusal.value.reply == replies.BAD_SYNTAX


@given(st.text(max_size=60))
def test_arbitrary_text_is_options_or_a_refusal_and_nothing_else(rest: str) -> None:
    for read in (lambda: mail_parameters(rest, ALL, MOMENT), lambda: recipient_parameters(rest, RCPT, utf8=True)):
        try:
            read()
            code = b"250"
        except Refused as refusal:
            code = refusal.reply[:3]
        assert code in (b"250", b"501", b"555")


@given(st.text([chr(code) for code in range(0x20, 0x7F)], min_size=1))
def test_xtext_reads_back_what_was_written(text: str) -> None:
    encoded = "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)
    assert xtext.decoded(encoded) == text
