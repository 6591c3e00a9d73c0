"""The small pure parts: the state table, trace lines, SASL messages, replies."""

import pytest

from nodes.logins import sasl
from nodes.smtp import replies, trace
from nodes.smtp.commands import COMMANDS, LMTP_COMMANDS
from nodes.smtp.states import OUT_OF_ORDER, TRANSITIONS, State


@pytest.mark.parametrize("state", [state for state in State if state is not State.DATA])
def test_every_command_is_legal_in_a_state_or_has_an_answer_there(state: State) -> None:
    for verb in {**COMMANDS, **LMTP_COMMANDS}:
        assert (verb in TRANSITIONS[state]) != (verb in OUT_OF_ORDER[state]), verb


def test_quit_reset_and_noop_are_legal_wherever_a_command_is_read() -> None:
    for state in State:
        if state is not State.DATA:
            assert {b"QUIT", b"RSET", b"NOOP", b"HELP"} <= TRANSITIONS[state].keys()


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"extended": False}, "SMTP"),
        ({}, "ESMTP"),
        ({"secure": True}, "ESMTPS"),
        ({"authenticated": True}, "ESMTPA"),
        ({"secure": True, "authenticated": True}, "ESMTPSA"),
        ({"utf8": True, "secure": True}, "UTF8SMTPS"),
        ({"lmtp": True}, "LMTP"),
        ({"lmtp": True, "utf8": True, "secure": True}, "UTF8LMTPS"),
    ],
)
def test_the_protocol_name_is_the_registered_one(facts: dict[str, bool], name: str) -> None:
    known = {"lmtp": False, "extended": True, "secure": False, "authenticated": False, "utf8": False}
    assert trace.protocol_name(**{**known, **facts}) == name


def test_an_ipv6_client_stands_in_the_trace_as_an_address_literal() -> None:
    line = trace.received(
        helo="mx.remote.test",
        client="2001:db8::1",
        client_name=None,
        hostname="mx.example.test",
        protocol="ESMTP",
        message_id=bytes(16),
        recipient="bob@example.test",
        at_s=0.0,
    )
    assert line == (
        b"Received: from mx.remote.test ([IPv6:2001:db8::1])\r\n"
        b"\tby mx.example.test with ESMTP id 00000000000000000000000000000000\r\n"
        b"\tfor <bob@example.test>; Thu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_a_client_with_a_confirmed_name_stands_in_the_trace_under_name_and_address() -> None:
    line = trace.received(
        helo="hello.test",
        client="192.0.2.1",
        client_name="mx.remote.test",
        hostname="mx.example.test",
        protocol="ESMTP",
        message_id=bytes(16),
        recipient=None,
        at_s=0.0,
    )
    assert line.startswith(b"Received: from hello.test (mx.remote.test [192.0.2.1])\r\n")


def test_credentials_do_not_show_their_password() -> None:
    assert "hunter2" not in repr(sasl.Credentials("alice", "hunter2"))


@pytest.mark.parametrize("response", [b"", b"alice", b"\0alice", b"\0\0pw", b"\0alice\0", b"a\0b\0c\0d", b"\0\xff\0pw"])
def test_a_malformed_plain_message_is_no_credentials(response: bytes) -> None:
    with pytest.raises(sasl.Malformed):
        sasl.plain(response)


def test_a_reply_of_several_lines_repeats_its_enhanced_code() -> None:
    assert replies.reply(250, "2.0.0", "one", "two") == b"250-2.0.0 one\r\n250 2.0.0 two\r\n"
