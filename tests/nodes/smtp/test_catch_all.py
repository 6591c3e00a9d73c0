"""Extensions of addresses and the catch-all, at the door and in the mailbox: who gets what comes for which address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]
ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """What nobody has is Bob's; info@ is an alias of Alice."""
    with Cell(tmp_path_factory.mktemp("catch-all")) as started:
        started.call(started.directory.delete_alias("info@example.test", ADMIN))
        started.call(started.directory.add_alias("info@example.test", [ALICE], ADMIN))
        started.call(started.directory.add_alias("*@example.test", [BOB], ADMIN))
        yield started


def takers(cell: Cell, client: Dialogue, recipient: str, subject: str) -> list[str]:
    """Who has a message for this address, once the server has taken it."""
    assert client.begin(recipient) == ["250 2.1.5 Ok"]
    data = f"Subject: {subject}\r\n\r\nx\r\n".encode()
    assert client.transfer(data).startswith("250 ")
    return [address for address in (ALICE, BOB) if data in [body for _, body in cell.inbox(address)]]


@pytest.mark.parametrize(
    ("recipient", "taker"),
    [
        ("nobody@example.test", BOB),
        ("Nobody.At.All@EXAMPLE.test", BOB),
        ("nobody+shop@example.test", BOB),
        ('"no body"@example.test', BOB),
        ("*@example.test", BOB),
        ("alice@example.test", ALICE),
        ("alice+shop@example.test", ALICE),
        ("alice+@example.test", ALICE),
        ("alice+a+b@example.test", ALICE),
        ("info@example.test", ALICE),
        ("info+2026@example.test", ALICE),
    ],
)
def test_an_account_an_alias_and_their_extensions_come_before_the_catch_all(
    cell: Cell, talk: Talk, recipient: str, taker: str
) -> None:
    assert takers(cell, talk(), recipient, f"for {recipient}") == [taker]


def test_the_address_that_was_written_stands_in_the_trace(cell: Cell, talk: Talk) -> None:
    client = talk()
    client.begin("alice+shop@example.test")
    client.transfer(b"Subject: trace\r\n\r\nx\r\n")
    message, _ = cell.inbox(ALICE)[-1]
    assert b"for <alice+shop@example.test>" in message.trace


def test_an_account_that_is_made_later_has_its_mail_from_then_on(cell: Cell, talk: Talk) -> None:
    client = talk()
    assert takers(cell, client, "carol@example.test", "before") == [BOB]
    cell.call(cell.directory.add_account("carol@example.test", "secret of carol", None, ADMIN))
    assert takers(cell, client, "carol@example.test", "after") == []
    assert len(cell.inbox("carol@example.test")) == 1
    cell.call(cell.directory.delete_account("carol@example.test", ADMIN))
    assert takers(cell, client, "carol@example.test", "again") == [BOB]


def test_both_together_get_one_copy_each(cell: Cell, talk: Talk) -> None:
    before = len(cell.inbox(BOB))
    client = talk()
    assert client.begin("nobody@example.test", "nobody+x@example.test", ALICE) == ["250 2.1.5 Ok"] * 3
    assert client.transfer(b"Subject: one\r\n\r\nx\r\n").startswith("250 ")
    assert len(cell.inbox(BOB)) == before + 1


def test_a_catch_all_is_of_its_domain_alone_and_ends_with_it(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        cell.call(cell.directory.add_tenant("other", ["other.test"], ADMIN))
        cell.call(cell.directory.add_alias("*@other.test", [ALICE], ADMIN))
        client = Dialogue(cell.port("smtp"))
        client.read()
        client.ask("EHLO client.test")
        assert client.begin("nobody@other.test", "nobody@example.test") == [
            "250 2.1.5 Ok",
            "550 5.1.1 There is no such mailbox here",
        ]
        cell.call(cell.directory.delete_alias("*@other.test", ADMIN))
        assert client.ask("RCPT TO:<nobody@other.test>") == "550 5.1.1 There is no such mailbox here"
        client.close()
