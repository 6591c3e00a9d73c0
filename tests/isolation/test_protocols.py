"""Every command of the mail protocols that names something: what is another tenant's is answered like what nobody has.

One line each, with NAME for an account; it is said once of somebody at another tenant and once of nobody, and the
answers must be the same but for the name. To read, hash and wait is counted, not timed.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest

from cli import layout
from cli.client import AdminClient
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.server import Node
from tests.isolation import tenants_two
from tests.isolation.tenants_two import EVE, NOBODY, PASSWORD
from tests.isolation.test_api_matrix import Meter
from tests.nodes.http.test_admin import cell as cell

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE = "alice@example.test"

IMAP_LOGGED_IN = (
    'SELECT "Other Users/NAME"',
    'SELECT "Other Users/NAME/INBOX"',
    'EXAMINE "Other Users/NAME/News"',
    'STATUS "Other Users/NAME" (MESSAGES SIZE)',
    'LIST "" "Other Users/NAME*"',
    'LIST "" "Other Users/%"',
    'LIST (SUBSCRIBED) "" "*" RETURN (STATUS (MESSAGES))',
    'LSUB "" "Other Users/NAME*"',
    'SUBSCRIBE "Other Users/NAME"',
    'UNSUBSCRIBE "Other Users/NAME"',
    'CREATE "Other Users/NAME/new"',
    'DELETE "Other Users/NAME/News"',
    'RENAME "Other Users/NAME/News" mine',
    'RENAME Drafts "Other Users/NAME/theirs"',
    'GETACL "Other Users/NAME"',
    'SETACL "Other Users/NAME" alice@example.test lr',
    'DELETEACL "Other Users/NAME" alice@example.test',
    'MYRIGHTS "Other Users/NAME"',
    'LISTRIGHTS "Other Users/NAME" alice@example.test',
    "SETACL INBOX NAME lr",
    "SETACL INBOX -NAME lr",
    "DELETEACL INBOX NAME",
    "LISTRIGHTS INBOX NAME",
    'GETQUOTA "NAME"',
    'GETQUOTAROOT "Other Users/NAME"',
    'GETMETADATA "Other Users/NAME" (/shared/comment)',
    'SETMETADATA "Other Users/NAME" (/private/comment "x")',
    'ESEARCH IN (mailboxes "Other Users/NAME") ALL',
    'ESEARCH IN (subtree "Other Users/NAME") ALL',
    'NOTIFY SET (mailboxes "Other Users/NAME" (MessageNew MessageExpunge))',
    'NOTIFY SET STATUS (subtree "Other Users/NAME" (MessageNew MessageExpunge))',
    'APPEND "Other Users/NAME" {3+}\r\nabc',
)
IMAP_SELECTED = (
    'COPY 1 "Other Users/NAME"',
    'MOVE 1 "Other Users/NAME"',
    'UID COPY 1 "Other Users/NAME/INBOX"',
    "SEARCH FROM NAME",
    "SEARCH TEXT NAME",
)
IMAP_BEFORE = (
    "LOGIN NAME wrong",
    'LOGIN "NAME@@-2h" wrong',
    'LOGIN "NAME@@2026-11-01T10:00:00Z" wrong',
    'LOGIN "NAME@@#1" wrong',
    "AUTHENTICATE PLAIN PLAIN:NAME:alice@example.test:correct horse",  # as alice, for NAME
    "AUTHENTICATE PLAIN PLAIN::NAME:wrong",
)
SMTP_BEFORE = ("VRFY NAME", "VRFY <NAME>", "EXPN NAME", "EXPN info", "HELP NAME")
SMTP_LOGGED_IN = ("VRFY NAME", "EXPN NAME", "MAIL FROM:<NAME>", "ETRN NAME")


class Talk:
    """A line-wise dialogue."""

    def __init__(self, cell: layout.Cluster, kind: str) -> None:
        self.socket = socket.create_connection(split_address(cell.nodes[0].addresses[kind]), timeout=15)
        self.file = self.socket.makefile("rb")
        self._number = 0

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def line(self) -> str:
        return self.file.readline().decode()

    def imap(self, command: str) -> str:
        self._number += 1
        tag = f"t{self._number} "
        self.socket.sendall(f"{tag}{command}\r\n".encode())
        said = ""
        while not (line := self.line()).startswith(tag):
            assert line, said
            said += line
        return said + line.removeprefix(tag)

    def smtp(self, command: str) -> str:
        self.socket.sendall(f"{command}\r\n".encode())
        said = ""
        while True:
            said += (line := self.line())
            if line[3:4] != "-":
                return said


def serving(run: Run, cell: layout.Cluster, work: Callable[[], None], *settings: str) -> None:
    """Both tenants on a node that runs; afterwards the other one has what it had."""

    async def session() -> None:
        chosen = ("limits.auth_delay_s=0", *settings)
        async with Node(config_sources.load(cell.nodes[0].config, {}, chosen)).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(tenants_two.build, AdminClient(cell), cell)
            assert state.log is not None
            with state.log.snapshot() as snapshot:
                before = without_attempts(tenants_two.rows_of(snapshot, tenants_two.OTHER))
            await asyncio.to_thread(work)
            with state.log.snapshot() as snapshot:
                assert without_attempts(tenants_two.rows_of(snapshot, tenants_two.OTHER)) == before

    run(session())


def without_attempts(rows: dict[bytes, dict[bytes, Any]]) -> dict[bytes, dict[bytes, Any]]:
    """That somebody tried to come in is noted with the account, for its owner: how often, and when last."""
    return {
        stream: {key: row for key, row in some.items() if not (key[:1] == b"f" and len(row) == 2)}
        for stream, some in rows.items()
    }


def both(said: Callable[[str], str], command: str) -> tuple[str, str]:
    """The answers for somebody at another tenant and for nobody, without their names."""
    found = []
    for who in (EVE, NOBODY):
        answer = said(command.replace("NAME", who))
        found.append(answer.replace(who.capitalize(), "NAME").replace(who, "NAME"))
    return found[0], found[1]


def unlike(said: Callable[[str], str], commands: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for command in commands:
        theirs, nobodys = both(said, command)
        if theirs != nobodys:
            yield command, theirs, nobodys


@contextmanager
def as_alice(cell: layout.Cluster) -> Iterator[Talk]:
    with closing(Talk(cell, "imap")) as talk:
        talk.line()
        assert " OK" in " " + talk.imap(f'LOGIN {ALICE} "{PASSWORD}"')
        yield talk


def test_imap_shows_and_does_nothing_of_another_tenants(run: Run, cell: layout.Cluster) -> None:
    def work() -> None:
        with as_alice(cell) as talk:
            assert list(unlike(talk.imap, IMAP_LOGGED_IN)) == []
            talk.imap("APPEND INBOX {23+}\r\nSubject: x\r\n\r\nhello you")
            assert "OK" in talk.imap("SELECT INBOX")
            assert list(unlike(talk.imap, IMAP_SELECTED)) == []

    serving(run, cell, work)


def test_imap_tells_nobody_who_is_there_before_the_log_in(run: Run, cell: layout.Cluster) -> None:
    def said(command: str) -> str:
        with closing(Talk(cell, "imap")) as talk:
            talk.line()
            head, mark, rest = command.partition("PLAIN:")
            if mark:
                command = head + base64.b64encode(rest.replace(":", "\0").encode()).decode()
            return talk.imap(command)

    def work() -> None:
        assert list(unlike(said, IMAP_BEFORE)) == []
        assert "NO [AUTHENTICATIONFAILED]" in said(IMAP_BEFORE[-2].replace("NAME", EVE))

    serving(run, cell, work)


def test_smtp_tells_nobody_who_is_there(run: Run, cell: layout.Cluster) -> None:
    def work() -> None:
        for kind, commands in (("smtp", SMTP_BEFORE), ("submission", SMTP_BEFORE)):
            with closing(Talk(cell, kind)) as talk:
                talk.line()
                talk.smtp("EHLO client.test")
                assert list(unlike(talk.smtp, commands)) == []
        with closing(Talk(cell, "submission")) as talk:
            talk.line()
            talk.smtp("EHLO client.test")
            plain = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
            assert talk.smtp(f"AUTH PLAIN {plain}").startswith("235")
            assert list(unlike(talk.smtp, SMTP_LOGGED_IN)) == []

    serving(run, cell, work)


@pytest.mark.parametrize("login", [f"USER {EVE}", f"USER {EVE}@@-2h", f"APOP {EVE} {'0' * 32}"])
def test_pop3_tells_nobody_who_is_there(run: Run, cell: layout.Cluster, login: str) -> None:
    def said(command: str) -> str:
        with closing(Talk(cell, "pop3")) as talk:
            talk.line()
            answers = []
            for line in (command, *(["PASS wrong"] if command.startswith("USER") else [])):
                talk.socket.sendall(f"{line}\r\n".encode())
                answers.append(talk.line())
            return "".join(answers)

    def work() -> None:
        assert list(unlike(said, (login.replace(EVE, "NAME"),))) == []

    serving(run, cell, work)


def wrong_log_ins(cell: layout.Cluster, who: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each way to say a wrong password, by name: a connection each."""

    def imap(command: str) -> str:
        with closing(Talk(cell, "imap")) as talk:
            talk.line()
            return talk.imap(command)

    def submission(*commands: str) -> str:
        with closing(Talk(cell, "submission")) as talk:
            talk.line()
            return "".join(talk.smtp(one) for one in ("EHLO client.test", *commands))

    def pop3(login: str) -> str:
        with closing(Talk(cell, "pop3")) as talk:
            talk.line()
            talk.socket.sendall(f"USER {login}\r\nPASS wrong\r\n".encode())
            return talk.line() + talk.line()

    def plain(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    for login in (who, f"{who}@@-2h", f"{who}@@#1"):
        yield f"IMAP LOGIN {login}", partial(imap, f'LOGIN "{login}" wrong')
        yield f"POP3 {login}", partial(pop3, login)
    yield "IMAP PLAIN", lambda: imap(f"AUTHENTICATE PLAIN {plain(f'{chr(0)}{who}{chr(0)}wrong')}")
    yield "IMAP PLAIN for another", lambda: imap(f"AUTHENTICATE PLAIN {plain(f'{who}{chr(0)}{ALICE}{chr(0)}wrong')}")
    yield "SMTP PLAIN", lambda: submission(f"AUTH PLAIN {plain(f'{chr(0)}{who}{chr(0)}wrong')}")
    yield "SMTP LOGIN", lambda: submission("AUTH LOGIN", plain(who), plain("wrong"))


def test_a_wrong_log_in_takes_the_same_hashing_for_somebody_elsewhere_as_for_nobody(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(monkeypatch)

    def work() -> None:
        for (name, theirs), (_, nobodys) in zip(wrong_log_ins(cell, EVE), wrong_log_ins(cell, NOBODY), strict=True):
            told = []
            for who, attempt in ((EVE, theirs), (NOBODY, nobodys)):
                meter.counts.clear()
                answer = attempt().replace(who, "NAME").replace(base64.b64encode(who.encode()).decode(), "NAME")
                told.append((answer, {key: count for key, count in meter.counts.items() if key != "reads"}))
            assert told[0] == told[1], name
            assert sum(told[0][1].values()) == (name != "IMAP PLAIN for another"), name  # which nobody may, before any

    serving(run, cell, work, "limits.auth_block_after=100")
