"""Every command of the mail protocols that names something: what is another tenant's is answered like what nobody has.

The lines (protocol_commands.py) have NAME for an account; each is said once of somebody at another tenant and once of
nobody, and the answers must be the same but for the name. To read, hash and wait is counted, not timed.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest

from cli import layout
from cli.client import AdminClient
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.imap import grammar
from nodes.pop3.session import COMMANDS as POP3_COMMANDS
from nodes.server import Node
from nodes.smtp.commands import COMMANDS, LMTP_COMMANDS
from tests.isolation import protocol_commands as protocol
from tests.isolation import tenants_two
from tests.isolation.tenants_two import EVE, NOBODY, PASSWORD
from tests.isolation.test_api_matrix import Meter
from tests.nodes.http.one_node import cell as cell

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE = "alice@example.test"


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

    def pop3(self, command: str) -> str:
        """What is answered to each of its lines."""
        self.socket.sendall(f"{command}\r\n".encode())
        return "".join(self.line() for _ in command.split("\r\n"))

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
        answer = re.sub(r'TAG "t\d+"', "TAG", said(command.replace("NAME", who)))
        found.append(answer.replace(who.capitalize(), "NAME").replace(who, "NAME"))
    return found[0], found[1]


def unlike(said: Callable[[str], str], commands: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for command in commands:
        theirs, nobodys = both(said, command)
        if theirs != nobodys:
            yield command, theirs, nobodys


@contextmanager
def as_alice(cell: layout.Cluster, moment: str = "") -> Iterator[Talk]:
    with closing(Talk(cell, "imap")) as talk:
        talk.line()
        assert " OK" in " " + talk.imap(f'LOGIN "{ALICE}{moment}" "{PASSWORD}"')
        yield talk


def verbs(*tables: dict[str, Any]) -> set[str]:
    return {verb for table in tables for verb in table}


def names(table: Mapping[bytes, Any]) -> set[str]:
    return {verb.decode() for verb in table}


def test_every_command_of_every_mail_protocol_is_tried_or_says_why_not() -> None:
    imap = {*grammar.COMMANDS, *(f"UID {verb}" for verb in grammar.UID_COMMANDS)}
    tried = verbs(protocol.IMAP_LOGGED_IN, protocol.IMAP_SELECTED, protocol.IMAP_BEFORE)
    assert tried | set(protocol.IMAP_OF_NOBODY) == imap
    assert tried.isdisjoint(protocol.IMAP_OF_NOBODY)
    smtp = names(COMMANDS) | names(LMTP_COMMANDS)
    tried = verbs(protocol.SMTP_BEFORE, protocol.SMTP_LOGGED_IN) - {"ETRN"}
    assert tried | verbs(protocol.SMTP_ELSEWHERE, protocol.SMTP_OF_NOBODY) == smtp
    assert tried.isdisjoint(protocol.SMTP_OF_NOBODY)
    assert verbs(protocol.POP3_BEFORE, protocol.POP3_OF_NOBODY) == names(POP3_COMMANDS)
    assert set(protocol.POP3_BEFORE).isdisjoint(protocol.POP3_OF_NOBODY)


@pytest.mark.parametrize("moment", ["", "@@#"])
def test_imap_shows_and_does_nothing_of_another_tenants(run: Run, cell: layout.Cluster, moment: str) -> None:
    """Now, and in a session as of a moment."""

    def work() -> None:
        with as_alice(cell) as talk:
            talk.imap("APPEND INBOX {23+}\r\nSubject: x\r\n\r\nhello you")
        as_of = f"{moment}{AdminClient(cell).status(cell.nodes[0])['applied']}" if moment else ""
        with as_alice(cell, as_of) as talk:
            assert list(unlike(talk.imap, protocol.lines(protocol.IMAP_LOGGED_IN))) == []
            assert "OK" in talk.imap("SELECT INBOX")
            assert list(unlike(talk.imap, protocol.lines(protocol.IMAP_SELECTED))) == []

    serving(run, cell, work)


def test_imap_tells_nobody_who_is_there_before_the_log_in(run: Run, cell: layout.Cluster) -> None:
    def said(command: str) -> str:
        with closing(Talk(cell, "imap")) as talk:
            talk.line()
            return talk.imap(encoded(command))

    def work() -> None:
        assert list(unlike(said, protocol.lines(protocol.IMAP_BEFORE))) == []
        assert "NO [AUTHENTICATIONFAILED]" in said("AUTHENTICATE PLAIN PLAIN::" + EVE + ":wrong")

    serving(run, cell, work)


def encoded(command: str) -> str:
    """What stands behind PLAIN: in base64."""
    head, mark, rest = command.partition("PLAIN:")
    return head + base64.b64encode(rest.replace(":", "\0").encode()).decode() if mark else command


def test_smtp_tells_nobody_who_is_there(run: Run, cell: layout.Cluster) -> None:
    def work() -> None:
        for kind, hello in (("smtp", "EHLO"), ("submission", "EHLO"), ("lmtp", "LHLO")):
            with closing(Talk(cell, kind)) as talk:
                talk.line()
                talk.smtp(f"{hello} client.test")
                assert list(unlike(talk.smtp, protocol.lines(protocol.SMTP_BEFORE))) == []
        with closing(Talk(cell, "submission")) as talk:
            talk.line()
            talk.smtp("EHLO client.test")
            plain = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
            assert talk.smtp(f"AUTH PLAIN {plain}").startswith("235")

            def said(command: str) -> str:
                answer = talk.smtp(command)
                talk.smtp("RSET")
                return answer

            assert list(unlike(said, protocol.lines(protocol.SMTP_LOGGED_IN))) == []

    serving(run, cell, work)


def test_who_takes_mail_is_told_of_every_tenant_alike(run: Run, cell: layout.Cluster) -> None:
    """RCPT is what a mail server is for; it must not tell whose an address is."""

    def said(talk: Talk, who: str) -> str:
        talk.smtp("MAIL FROM:<x@remote.test>")
        answer = talk.smtp(f"RCPT TO:<{who}>")
        talk.smtp("RSET")
        return answer.replace(who, "NAME")

    def work() -> None:
        for kind, hello in (("smtp", "EHLO"), ("lmtp", "LHLO")):
            with closing(Talk(cell, kind)) as talk:
                talk.line()
                talk.smtp(f"{hello} client.test")
                assert said(talk, EVE) == said(talk, ALICE)
                assert said(talk, NOBODY) == said(talk, "nil@example.test")

    serving(run, cell, work)


def test_pop3_tells_nobody_who_is_there(run: Run, cell: layout.Cluster) -> None:
    def said(command: str) -> str:
        with closing(Talk(cell, "pop3")) as talk:
            talk.line()
            return talk.pop3(encoded(command))

    def work() -> None:
        assert list(unlike(said, protocol.lines(protocol.POP3_BEFORE))) == []

    serving(run, cell, work)


def scram(cell: layout.Cluster, who: str) -> tuple[str, str, str]:
    """A log-in with a wrong proof: the salt, the server's first message without it and the nonce, the end."""

    def base(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    with closing(Talk(cell, "imap")) as talk:
        talk.line()
        talk.socket.sendall(f"a AUTHENTICATE SCRAM-SHA-256 {base(f'n,,n={who},r=client')}\r\n".encode())
        first = base64.b64decode(talk.line().removeprefix("+ ")).decode()
        nonce, salt, rest = first.split(",", 2)
        talk.socket.sendall(f"{base(f'c=biws,{nonce},p={base(chr(0) * 32)}')}\r\n".encode())
        return salt, f"{len(nonce)} {len(salt)} {rest}", talk.line()


def test_scram_is_answered_for_somebody_elsewhere_as_for_nobody(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A salt stays the same for whoever it is asked for, and the check of a wrong proof costs the same."""
    meter = Meter(monkeypatch)

    def work() -> None:
        told = []
        for who in (EVE, NOBODY):
            meter.counts.clear()
            found = [scram(cell, who) for _ in range(2)]
            assert len({salt for salt, _, _ in found}) == 1
            told.append(([one[1:] for one in found], +meter.counts))
        assert told[0] == told[1]

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
