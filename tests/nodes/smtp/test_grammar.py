"""The arguments of MAIL and RCPT: RFC 5321 4.1.2, RFC 6531 3.3, RFC 1870, RFC 6152."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mail_options import MailOptions
from nodes.smtp import grammar, replies
from nodes.smtp.grammar import MailCommand, domain_of, parse_host
from nodes.smtp.parameters import Moment
from nodes.smtp.replies import Refused

ATEXT = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~"
atoms = st.text(ATEXT, min_size=1, max_size=12)
dot_strings = st.lists(atoms, min_size=1, max_size=3).map(".".join)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)
quoted_content = st.text([chr(code) for code in range(0x20, 0x7F)], max_size=12)


def quote(content: str) -> str:
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


MAIL = frozenset(("SIZE", "BODY", "SMTPUTF8", "AUTH"))
RCPT = frozenset(("NOTIFY", "ORCPT"))
NOTHING: frozenset[str] = frozenset()


def parse_mail(argument: bytes, allowed: frozenset[str] = MAIL) -> MailCommand:
    return grammar.parse_mail(argument, allowed, Moment())


def parse_rcpt(argument: bytes, *, utf8: bool = False) -> str:
    return grammar.parse_rcpt(argument, RCPT, utf8=utf8).address


def refusal(text: str, *, utf8: bool = False) -> bytes:
    with pytest.raises(Refused) as refused:
        parse_rcpt(text.encode(), utf8=utf8)
    return refused.value.reply


def mail_refusal(text: str, allowed: frozenset[str] = MAIL) -> bytes:
    with pytest.raises(Refused) as refused:
        parse_mail(text.encode(), allowed)
    return refused.value.reply


@given(dot_strings, domains)
def test_every_dot_string_at_a_domain_is_taken_as_it_stands(local: str, domain: str) -> None:
    assert parse_rcpt(f"TO:<{local}@{domain}>".encode()) == f"{local}@{domain}"


@given(quoted_content, domains)
def test_a_quoted_local_part_reads_back_from_its_canonical_form(content: str, domain: str) -> None:
    once = parse_rcpt(f"TO:<{quote(content)}@{domain}>".encode())
    assert parse_rcpt(f"TO:<{once}>".encode()) == once
    assert domain_of(once) == domain


@given(st.binary(max_size=80))
def test_arbitrary_bytes_give_an_address_or_a_refusal_and_nothing_else(argument: bytes) -> None:
    for attempt in (b"TO:" + argument, b"TO:<" + argument + b">", argument):
        try:
            address = parse_rcpt(attempt, utf8=True)
        except Refused as refused:
            outcome = refused.reply[:-2].decode()
        else:
            outcome = address
        assert not set(outcome) & set("\r\n\0")


@given(st.text(max_size=40))
def test_arbitrary_text_after_from_gives_a_sender_or_a_refusal(argument: str) -> None:
    try:
        outcome = parse_mail(b"FROM:" + argument.encode("utf-8", "replace")).sender.encode()
    except Refused as refused:
        outcome = refused.reply[:9]
        known = outcome in (b"501 5.5.4", b"553 5.1.7", b"553 5.6.7", b"555 5.5.4")
    else:
        known = b"\r" not in outcome
    assert known


def test_quotes_that_are_not_needed_are_dropped() -> None:
    assert parse_rcpt(b'TO:<"alice"@example.test>') == "alice@example.test"
    assert parse_rcpt(b'TO:<"a\\lice"@example.test>') == "alice@example.test"


def test_a_quoted_local_part_may_hold_an_at_sign_and_a_bracket() -> None:
    address = parse_rcpt(b'TO:<"a@b>c"@example.test>')
    assert address == '"a@b>c"@example.test'
    assert domain_of(address) == "example.test"


def test_a_source_route_is_ignored() -> None:
    assert parse_rcpt(b"TO:<@one.test,@two.test:alice@example.test>") == "alice@example.test"


def test_postmaster_needs_no_domain_and_nobody_else_may_lack_one() -> None:
    assert parse_rcpt(b"TO:<Postmaster>") == "Postmaster"
    assert refusal("TO:<alice>") == replies.BAD_RECIPIENT
    assert mail_refusal("FROM:<postmaster>") == replies.BAD_SENDER


def test_the_null_sender_is_accepted_and_a_null_recipient_is_not() -> None:
    assert parse_mail(b"FROM:<>") == MailCommand("")
    assert parse_mail(b"FROM:<> SIZE=12") == MailCommand("", size_bytes=12)
    assert refusal("TO:<>") == replies.BAD_RECIPIENT


@pytest.mark.parametrize("literal", ["[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_an_address_literal_is_a_domain(literal: str) -> None:
    assert parse_rcpt(f"TO:<alice@{literal}>".encode()) == f"alice@{literal}"


@pytest.mark.parametrize(
    "path",
    [
        "<alice@>",
        "<@example.test>",
        "<alice@example..test>",
        "<alice@-example.test>",
        "<.alice@example.test>",
        "<alice.@example.test>",
        "<a..b@example.test>",
        "<alice@[300.0.0.1]>",
        "<alice@[IPv6:zz]>",
        "<alice@[tag:x]>",
        "<alice@example.test",
        "<alice example.test>",
        "<al\x00ice@example.test>",
        '<"alice@example.test>',
        "<alice@" + "x" * 64 + ".test>",
        "<" + "x" * 330 + "@example.test>",
    ],
)
def test_a_malformed_path_is_refused(path: str) -> None:
    assert refusal(f"TO:{path}") == replies.BAD_RECIPIENT
    assert mail_refusal(f"FROM:{path}") == replies.BAD_SENDER


@pytest.mark.parametrize("argument", ["", "<alice@example.test>", "FROM <a@b>", "TO:<a@b>", "FROM:alice@example.test"])
def test_mail_without_from_and_brackets_is_a_syntax_error(argument: str) -> None:
    assert mail_refusal(argument) == replies.BAD_SYNTAX


def test_the_keyword_is_taken_in_any_case_and_with_blanks_after_it() -> None:
    assert parse_mail(b"from: <a@example.test>").sender == "a@example.test"


def test_parameters_are_read_in_any_case() -> None:
    command = parse_mail("FROM:<ä@example.test> size=1000 body=8bitmime smtputf8 AUTH=<>".encode())
    assert command == MailCommand("ä@example.test", 1000, MailOptions("8BITMIME", utf8=True))


@pytest.mark.parametrize(
    "parameters",
    [
        "SIZE",
        "SIZE=",
        "SIZE=x",
        "SIZE=-1",
        "SIZE=" + "9" * 21,
        "SIZE=1 SIZE=2",
        "BODY=BINARY",
        "SMTPUTF8=1",
        "AUTH=+zz",
    ],
)
def test_a_malformed_parameter_is_a_syntax_error(parameters: str) -> None:
    assert mail_refusal(f"FROM:<a@example.test> {parameters}") == replies.BAD_SYNTAX


def test_an_unknown_parameter_is_refused_as_such() -> None:
    assert mail_refusal("FROM:<a@example.test> FOO=1") == replies.UNKNOWN_PARAMETER
    assert mail_refusal("FROM:<a@example.test> RET=FULL") == replies.UNKNOWN_PARAMETER  # not offered here
    assert refusal("TO:<a@example.test> RRVS=x") == replies.UNKNOWN_PARAMETER


def test_a_client_that_said_helo_may_give_no_parameters() -> None:
    assert mail_refusal("FROM:<a@example.test> SIZE=1", NOTHING) == replies.UNKNOWN_PARAMETER
    assert parse_mail(b"FROM:<a@example.test>", NOTHING).sender == "a@example.test"


def test_an_address_beyond_ascii_needs_smtputf8() -> None:
    assert mail_refusal("FROM:<ä@example.test>") == replies.NEEDS_SMTPUTF8
    assert refusal("TO:<a@bücher.test>") == replies.NEEDS_SMTPUTF8
    assert parse_rcpt("TO:<a@bücher.test>".encode(), utf8=True) == "a@bücher.test"


def test_a_host_name_that_could_break_a_trace_line_is_refused() -> None:
    assert parse_host(b"mx_1.example.test") == "mx_1.example.test"
    assert parse_host(b"[IPv6:::1]") == "[IPv6:::1]"
    for host in (b"", b"two words", b"a(b)", b"a;b", b"a<b>", b"\xff", b"a\x00"):
        with pytest.raises(Refused):
            parse_host(host)


def test_a_client_names_itself_by_a_domain_or_an_address_literal() -> None:
    for host in (b"[IPv6:zz]", b"[1.2.3]", b"-a", b"a..b", b"::1", b"x" * 64 + b".test"):
        with pytest.raises(Refused):
            parse_host(host)
