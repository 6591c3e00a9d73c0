"""Extensions of ESMTP over real connections: where each is offered, and what becomes of what it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from actors.mail_options import MailOptions, RecipientOptions
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]
LOGIN = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQgb2YgYWxpY2U="  # alice@example.test, "secret of alice"


@pytest.fixture
def submitter(talk: Talk) -> Dialogue:
    client = talk("submission")
    assert client.ask(LOGIN).startswith("235 ")
    return client


def offered(dialogue: Dialogue, greeting: str = "EHLO") -> set[str]:
    return {line[4:].split()[0] for line in dialogue.ask(f"{greeting} client.test").splitlines()[1:]}


def test_each_listener_offers_what_is_for_its_clients(talk: Talk) -> None:
    everywhere = {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "DSN"}
    everywhere |= {"LIMITS", "STARTTLS", "HELP"}
    assert offered(talk()) == everywhere | {"DELIVERBY"}
    assert offered(talk("lmtp"), "LHLO") == everywhere
    assert offered(talk("submission")) == everywhere | {"DELIVERBY", "FUTURERELEASE", "MT-PRIORITY", "AUTH", "XVERP"}


def test_requiretls_is_offered_and_taken_over_tls_only(cell: Cell, talk: Talk) -> None:  # RFC 8689 2
    client = talk()
    assert client.ask("MAIL FROM:<a@remote.test> REQUIRETLS").startswith("555 5.5.4")
    assert client.ask("STARTTLS").startswith("220 ")
    client.upgrade(cell.client_context())
    assert "REQUIRETLS" in offered(client)
    assert "STARTTLS" not in offered(client)
    assert client.ask("MAIL FROM:<a@remote.test> REQUIRETLS") == "250 2.1.0 Ok"


def test_what_a_submitter_asks_for_stands_with_the_queued_mail(cell: Cell, submitter: Dialogue) -> None:
    assert submitter.ask(
        "MAIL FROM:<alice@example.test> BODY=8BITMIME RET=HDRS ENVID=Qq+2B1 MT-PRIORITY=4 BY=600;NT HOLDFOR=60"
    ).startswith("250")
    assert submitter.ask("RCPT TO:<x@one.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;X@One.test").startswith("250")
    assert submitter.ask("RCPT TO:<y@one.test>").startswith("250")
    assert submitter.transfer(b"Subject: x\r\n\r\nx\r\n").startswith("250")
    item = cell.queued()["one.test"][-1]
    options = MailOptions._make(item.options)
    assert options[:7] == ("8BITMIME", False, False, "HDRS", "Qq+1", 4, item.options.hold_until_ms)
    assert options.deliver_by_ms - options.hold_until_ms == 540_000
    assert (options.by_mode, options.by_trace) == ("N", True)
    assert [one.options for one in item.recipients] == [
        RecipientOptions(("SUCCESS", "DELAY"), "rfc822;X@One.test"),
        RecipientOptions(),
    ]


def test_an_address_outside_ascii_is_normalised(cell: Cell, submitter: Dialogue) -> None:  # RFC 6531 3.3, RFC 6532 3.1
    assert submitter.ask("MAIL FROM:<alice@example.test> SMTPUTF8").startswith("250")
    assert submitter.ask("RCPT TO:<u\u0308ber@bu\u0308cher.test>").startswith("250")
    assert submitter.transfer(b"Subject: x\r\n\r\nx\r\n").startswith("250")
    item = cell.queued()["xn--bcher-kva.test"][-1]
    assert [one.address for one in item.recipients] == ["\u00fcber@b\u00fccher.test"]
    assert b" with UTF8SMTPA id " in item.trace


def test_parameters_need_ehlo_and_what_it_offered(talk: Talk) -> None:
    client = talk(greet=False)
    client.ask("HELO client.test")
    assert client.ask("MAIL FROM:<a@remote.test> SIZE=1").startswith("555 5.5.4")
    client.ask("EHLO client.test")
    for parameter in ("HOLDFOR=60", "MT-PRIORITY=1", "REQUIRETLS", "XVERP"):
        assert client.ask(f"MAIL FROM:<a@remote.test> {parameter}").startswith("555 5.5.4"), parameter
    assert client.ask("MAIL FROM:<a@remote.test> RET=SOME").startswith("501 5.5.4")
    assert client.ask("MAIL FROM:<a@remote.test>").startswith("250")
    assert client.ask("RCPT TO:<bob@example.test> NOTIFY=NEVER,DELAY").startswith("501 5.5.4")


def test_help_tells_the_syntax_of_a_command(talk: Talk) -> None:
    client = talk()
    named = client.ask("HELP")
    assert ("BDAT" in named, "EXPN" in named, "AUTH" in named) == (True, False, False)
    assert "AUTH" in talk("submission").ask("HELP")
    assert client.ask("HELP bdat") == "214 2.0.0 BDAT octets [LAST], then so many octets (RFC 3030 2)"


@pytest.fixture
def open_cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    smtp = {"vrfy": True, "priority_from": ["127.0.0.0/8"], "transactions": 2}
    with Cell(tmp_path_factory.mktemp("open"), sections={"smtp": smtp}) as started:
        yield started


def test_what_is_off_by_default_can_be_switched_on(open_cell: Cell) -> None:
    client = Dialogue(open_cell.port("smtp"))
    client.read()
    assert {"VRFY", "MT-PRIORITY"} <= offered(client)
    assert client.ask("VRFY <bob@example.test>") == "250 2.1.5 <bob@example.test>"
    assert client.ask("VRFY nobody@example.test").startswith("550 5.1.1")
    assert client.ask("VRFY x@remote.test").startswith("252 ")
    assert client.ask("VRFY bob").startswith("252 ")
    assert client.ask("MAIL FROM:<a@remote.test> MT-PRIORITY=-3").startswith("250")
    client.close()


def test_a_session_ends_after_as_many_messages_as_were_announced(open_cell: Cell) -> None:  # RFC 9422 4.1
    client = Dialogue(open_cell.port("smtp"))
    client.read()
    assert "LIMITS RCPTMAX=100 MAILMAX=2" in client.ask("EHLO x")
    for _ in range(2):
        client.begin("bob@example.test")
        assert client.transfer(b"x: y\r\n\r\nx\r\n").startswith("250")
    assert client.ask("MAIL FROM:<>").startswith("421 4.5.3")
    assert client.line() == b""
    client.close()
