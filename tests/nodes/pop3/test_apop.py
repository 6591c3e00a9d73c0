"""APOP (RFC 1939 7): only where a tenant allows it, with a secret of its own, guarded as passwords are."""

import asyncio
import hashlib
import poplib
import re
from collections.abc import Iterator

import pytest

from actors import apop
from actors.directory import account_of
from actors.errors import NotAllowed
from actors.tenant_policy import SetMailPolicy
from nodes.logins.sasl import Digest
from nodes.pop3 import apop as greetings
from nodes.pop3.events import LogIn, Say
from nodes.pop3.session import Limits, Session
from nodes.redaction import Nothing, plan_apop
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

ALICE, BOB = "alice@example.test", "bob@example.test"
SECRET = "a secret that is long"
WRONG = "-ERR [AUTH] Wrong name or password"


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """alice has a secret; each change of the policy is seen at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greetings, "LOOK_EVERY_S", 0.0)
        with Cell(tmp_path_factory.mktemp("apop"), {"auth_delay_s": 0, "auth_block_after": 8}) as started:
            allow(started, "on")
            started.call(started.directory.credentials.set_apop_secret(ALICE, SECRET, ADMIN))
            yield started


def allow(cell: Cell, value: str) -> None:
    with cell.log.snapshot() as snapshot:
        tenant = account_of(snapshot, ALICE).tenant
    command = SetMailPolicy((("pop3_apop", value),))
    cell.call(cell.runtime.ask(tenant, command, ADMIN._replace(tenant=tenant)))


def greeted(cell: Cell) -> tuple[Dialogue, str]:
    """A connection, and the timestamp of its greeting."""
    client = Dialogue(cell.port("pop3"))
    found = re.fullmatch(r"\+OK mailraft POP3 ready( <[^@<>]+@[^@<>]+>)?\r\n", client.line().decode())
    assert found
    return client, (found[1] or "").strip()


def apop_line(timestamp: str, login: str, secret: str) -> str:
    return f"APOP {login} {hashlib.md5((timestamp + secret).encode()).hexdigest()}"


def attempt(cell: Cell, login: str, secret: str) -> str:
    client, timestamp = greeted(cell)
    return client.ask(apop_line(timestamp, login, secret))


def test_rfc_1939_7_the_example() -> None:
    timestamp = b"<1896.697170952@dbc.mtview.ca.us>"
    session = Session(Limits(200, 5), secure=True, offers_tls=False, mechanisms=("PLAIN",), timestamp=timestamp)
    session.feed(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n")
    digest = hashlib.md5(timestamp + b"tanstaaf").hexdigest().encode()
    assert session.next_event() == LogIn(Digest("mrose", timestamp, digest), "APOP")


@pytest.mark.parametrize("line", [b"APOP", b"APOP mrose", b"APOP mrose 12", b"APOP a b " + b"0" * 32])
def test_what_is_no_digest_is_refused_unseen(line: bytes) -> None:
    session = Session(Limits(200, 5), secure=True, offers_tls=False, mechanisms=("PLAIN",), timestamp=b"<1@a>")
    session.feed(line + b"\r\n")
    assert session.next_event() == Say(b"-ERR APOP needs a name and a digest\r\n")


def test_poplib_logs_in_with_the_secret_and_with_nothing_else(cell: Cell) -> None:
    client = poplib.POP3_SSL("localhost", cell.port("pop3s"), context=cell.client_context())
    assert client.apop(ALICE, SECRET).startswith(b"+OK 0 messages")
    client.quit()
    with pytest.raises(poplib.error_proto, match="Wrong name or password"):
        poplib.POP3_SSL("localhost", cell.port("pop3s"), context=cell.client_context()).apop(ALICE, "secret of alice")


def test_the_secret_is_no_password(cell: Cell) -> None:
    client, _ = greeted(cell)
    client.ask(f"USER {ALICE}")
    assert client.ask(f"PASS {SECRET}") == WRONG


def test_no_two_greetings_are_alike_and_a_digest_counts_for_its_own_only(cell: Cell) -> None:
    timestamps = {greeted(cell)[1] for _ in range(20)}
    assert len(timestamps) == 20
    client, _ = greeted(cell)
    assert client.ask(apop_line(timestamps.pop(), ALICE, SECRET)) == WRONG


def test_who_is_not_known_or_has_no_secret_is_answered_as_a_wrong_digest_is(cell: Cell) -> None:
    assert attempt(cell, ALICE, "another secret, also long") == WRONG
    assert attempt(cell, BOB, SECRET) == WRONG
    assert attempt(cell, "nobody@example.test", SECRET) == WRONG
    assert attempt(cell, "nobody", "") == WRONG


def test_where_the_tenant_takes_it_back_there_is_no_timestamp_and_no_log_in(cell: Cell) -> None:
    client, timestamp = greeted(cell)
    allow(cell, "off")
    try:
        assert client.ask(apop_line(timestamp, ALICE, SECRET)) == WRONG
        other, none = greeted(cell)
        assert none == ""
        assert other.ask(apop_line(timestamp, ALICE, SECRET)) == "-ERR APOP is not offered"
        with pytest.raises(NotAllowed, match="pop3_apop=on"):
            cell.call(cell.directory.credentials.set_apop_secret(BOB, SECRET, ADMIN))
    finally:
        allow(cell, "on")
    assert attempt(cell, ALICE, SECRET).startswith("+OK")


@pytest.mark.parametrize("secret", ["", "too short", "x" * 129, "sixteen letters\n"])
def test_a_secret_that_can_be_guessed_is_none(secret: str) -> None:
    with pytest.raises(NotAllowed):
        apop.check(secret)


def test_what_was_removed_or_replaced_can_be_redacted_and_what_counts_can_not(cell: Cell) -> None:
    admin = cell.directory.credentials

    async def plan() -> int:
        return len((await asyncio.to_thread(plan_apop, cell.log.store, "example", lambda *_: None)).events)

    with pytest.raises(Nothing):
        cell.call(plan())
    cell.call(admin.set_apop_secret(BOB, SECRET, ADMIN))
    with pytest.raises(Nothing):
        cell.call(plan())
    cell.call(admin.set_apop_secret(BOB, SECRET + " anew", ADMIN))
    assert cell.call(plan()) == 1
    assert attempt(cell, BOB, SECRET + " anew").startswith("+OK")
    cell.call(admin.remove_apop_secret(BOB, ADMIN))
    assert cell.call(plan()) == 2
    assert attempt(cell, BOB, SECRET + " anew") == WRONG


def test_guesses_are_slowed_and_blocked_as_those_of_passwords_are(cell: Cell) -> None:
    answers = [attempt(cell, "carol@example.test", f"guess {number}") for number in range(9)]
    assert answers[:7] == [WRONG] * 7
    assert answers[-1] == "-ERR [AUTH] Too many wrong passwords, try again later"


def test_in_clear_it_is_taken_no_more_than_a_password(cell: Cell) -> None:
    session = Session(Limits(200, 5), secure=False, offers_tls=True, mechanisms=(), timestamp=b"<1@a>")
    session.feed(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n")
    assert session.next_event() == Say(b"-ERR A password may not come in clear: send STLS first\r\n")
