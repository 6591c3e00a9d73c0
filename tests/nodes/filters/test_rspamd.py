"""What an Rspamd is told of a message, and what each of its actions leads to."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from nodes.filters.health import Garbage
from nodes.filters.rspamd import MOST_SYMBOLS, opinion_of, parse
from tests.nodes.filters.filtered import ALICE, LETTER, filtered, found, kept, send
from tests.nodes.smtp.cell import Cell
from tests.peers.scanner_peers import NO_ACTION, RspamdPeer


@pytest.fixture(scope="module")
def rspamd() -> Iterator[RspamdPeer]:
    with RspamdPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, rspamd: RspamdPeer) -> Iterator[Cell]:
    sections = {
        "filters": {"rspamd": rspamd.address, "retry_s": 3600},
        "rspamd": {"listeners": ["smtp", "submissions"]},
    }
    with filtered(tmp_path_factory.mktemp("rspamd"), sections) as started:
        yield started


def answer(action: str, **more: Any) -> dict[str, Any]:
    return {**NO_ACTION, "action": action, **more}


def test_it_is_told_the_client_the_envelope_and_the_exact_message(cell: Cell, rspamd: RspamdPeer) -> None:
    rspamd.begin()
    assert send(cell, LETTER, ALICE, "bob@example.test").startswith("250")
    assert rspamd.path == "/checkv2"
    assert rspamd.body == LETTER
    told = {name: rspamd.told(name) for name in ("IP", "Helo", "Hostname", "From", "Rcpt", "MTA-Name", "User")}
    assert told == {
        "IP": ["127.0.0.1"],
        "Helo": ["client.test"],
        "Hostname": ["client.remote.test"],
        "From": ["a@remote.test"],
        "Rcpt": [ALICE, "bob@example.test"],
        "MTA-Name": ["mx.example.test"],
        "User": [],
    }
    assert rspamd.told("Queue-Id")[0] in kept(cell)[-1].decode()


def test_a_submitter_is_told_with_its_account_and_tls(cell: Cell, rspamd: RspamdPeer) -> None:
    rspamd.begin()
    with smtplib.SMTP_SSL("localhost", cell.port("submissions"), context=cell.client_context()) as submitter:
        submitter.login(ALICE, "secret of alice")
        submitter.sendmail(ALICE, ["bob@example.test"], LETTER)
    assert rspamd.told("User") == [ALICE]
    assert rspamd.told("TLS-Version")[0].startswith("TLSv1.")
    assert rspamd.told("TLS-Cipher")[0]


def test_what_it_finds_stands_in_the_event(cell: Cell, rspamd: RspamdPeer) -> None:
    symbols = {"R_SPF_ALLOW": {"name": "R_SPF_ALLOW", "score": -0.2}, "BAYES_HAM": {"score": -3.5, "options": ["x"]}}
    rspamd.begin(answer("no action", score=-3.7, symbols=symbols))
    assert send(cell).startswith("250")
    assert found(cell)["rspamd"] == {
        "action": "no action",
        "score": -3.7,
        "required": 15.0,
        "symbols": {"BAYES_HAM": -3.5, "R_SPF_ALLOW": -0.2},
    }


def test_only_so_many_symbols_stand_in_the_event_the_heaviest_of_them() -> None:
    symbols = {f"S{n}": {"score": n / 10} for n in range(500)}
    opinion = opinion_of(parse_json(answer("no action", symbols=symbols)), marked_is_junk=True)
    assert len(opinion.found["symbols"]) == MOST_SYMBOLS
    assert "S499" in opinion.found["symbols"]


def test_headers_that_it_adds_stand_in_front_and_those_it_would_remove_are_noted(
    cell: Cell, rspamd: RspamdPeer
) -> None:
    changes = {
        "add_headers": {
            "X-Spamd-Result": {"value": "default: False [-3.7 / 15.0];\n\tBAYES_HAM(-3.5)[]", "order": 0},
            "X-Several": ["one", {"value": "two"}],
            "X-Injected": "a\r\n\r\nbody",
        },
        "remove_headers": {"X-Spam": 0},
    }
    rspamd.begin(answer("no action", milter=changes))
    assert send(cell).startswith("250")
    assert kept(cell)[-1].startswith(
        b"Return-Path: <a@remote.test>\r\nX-Spamd-Result: default: False [-3.7 / 15.0];\r\n\tBAYES_HAM(-3.5)[]\r\n"
        b"X-Several: one\r\nX-Several: two\r\nX-Injected: a\r\n\tbody\r\nReceived: "
    )
    assert found(cell)["rspamd"]["not_applied"] == ["remove header X-Spam"]


@pytest.mark.parametrize(
    ("action", "told", "reply"),
    [
        ("reject", {"smtp_message": "Gtube pattern"}, "550 5.7.1 Gtube pattern"),
        ("reject", {"smtp_message": "two\r\n250 lines\0"}, "550 5.7.1 two 250 lines"),
        ("reject", [], "550 5.7.1 Refused as spam"),
        ("soft reject", {"smtp_message": "Try again later"}, "451 4.7.1 Try again later"),
        ("soft reject", {"smtp_message": 7}, "451 4.7.1 Try again later"),
    ],
)
def test_what_it_rejects_is_refused_in_its_words(
    cell: Cell, rspamd: RspamdPeer, action: str, told: Any, reply: str
) -> None:
    rspamd.begin(answer(action, messages=told))
    assert send(cell) == reply


@pytest.mark.parametrize(
    ("action", "folder", "is_marked"),
    [
        ("no action", "INBOX", False),
        ("greylist", "INBOX", False),
        ("add header", "Junk", True),
        ("rewrite subject", "Junk", True),
        ("quarantine", "Junk", False),
        ("discard", "Junk", False),
    ],
)
def test_what_it_takes_is_filed_by_its_action(
    cell: Cell, rspamd: RspamdPeer, action: str, folder: str, is_marked: bool
) -> None:
    rspamd.begin(answer(action))
    before = len(kept(cell, folder))
    assert send(cell).startswith("250")
    assert len(kept(cell, folder)) == before + 1
    assert (b"\r\nX-Spam: Yes\r\n" in kept(cell, folder)[-1]) is is_marked
    assert kept(cell, folder)[-1].endswith(b"\r\n" + LETTER)


def test_marked_mail_stays_in_the_inbox_where_policy_says_so() -> None:
    opinion = opinion_of(parse_json(answer("add header")), marked_is_junk=False)
    assert (opinion.action, opinion.lines) == ("accept", (b"X-Spam: Yes\r\n",))


def parse_json(value: Any) -> Any:
    return parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"action": 7}',
        b'{"action": "no action", "score": "high"}',
        b'{"action": "no action", "score": 1e999}',
        b'{"action": "no action", "symbols": {"X": []}}',
        b'{"action":' * 5000,
        b'{"action": "no action", "messages": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_garbage(body: bytes) -> None:
    with pytest.raises(Garbage):
        parse(body)


@pytest.mark.parametrize(
    "value", [answer("explode"), answer("no action", milter={"add_headers": {"X-A": {"order": 1}}})]
)
def test_an_answer_that_means_nothing_is_garbage(value: Any) -> None:
    with pytest.raises(Garbage):
        opinion_of(parse_json(value), marked_is_junk=True)
