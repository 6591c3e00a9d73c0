"""The check in front of a real listener, asking a real name server: what is refused, filed away, marked, left alone."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from actors.directory import account_of
from actors.mailbox import folder_by_name, messages
from actors.verdicts import VERDICTS, SetTenantMode, SetVerdictPolicy
from nodes.record_json import record_json
from nodes.verdicts.check import VerdictCheck, _address
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.verdicts.letters import key_record, letter, private_key, signed
from tests.peers.dns_server import DnsServer


def _txt(name: str, text: str) -> str:
    pieces = " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
    return f"{name}. TXT {pieces}"


ZONE = "\n".join(
    [
        _txt("sender.test", "v=spf1 ip4:192.0.2.0/24 -all"),
        _txt("_dmarc.sender.test", "v=DMARC1; p=reject"),
        _txt("s._domainkey.sender.test", key_record(private_key())),
        _txt("milder.test", "v=spf1 -all"),
        _txt("_dmarc.milder.test", "v=DMARC1; p=quarantine"),
        _txt("local.test", "v=spf1 ip4:127.0.0.1 ip6:::1 -all"),
        _txt("_dmarc.local.test", "v=DMARC1; p=reject"),
        _txt("silent.test", "v=spf1 -all"),
        _txt("_dmarc.silent.test", "v=DMARC1; p=reject"),
    ]
)


@pytest.fixture(scope="module")
def names() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        server.misbehave("_dmarc.silent.test", "servfail")
        yield server


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, names: DnsServer) -> Iterator[Cell]:
    with Cell(
        tmp_path_factory.mktemp("judged"),
        checks=lambda cell: (VerdictCheck(cell.config, cell.log, cell.resolver, cell.metrics, cell.reports),),
        sections={"verdicts": {"judge": "always", "timeout_s": 5.0}},
        dns={"nameservers": [names.address], "timeout_s": 2.0},
    ) as started:
        yield started


def send(cell: Cell, data: bytes, sender: str = "bounce@sender.test", kind: str = "smtp") -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", cell.port(kind), local_hostname="client.elsewhere.test") as client:
        try:
            client.sendmail(sender, ["bob@example.test"], data)
        except smtplib.SMTPDataError as error:
            text = error.smtp_error
            return error.smtp_code, text if isinstance(text, bytes) else text.encode()
    return 250, b""


def in_folder(cell: Cell, name: str) -> list[bytes]:
    """Each message of Bob's folder as he reads it."""
    with cell.log.snapshot() as snapshot:
        target = account_of(snapshot, "bob@example.test")
        view = snapshot.view(target.account)
        folder = folder_by_name(view, name)
        assert folder is not None
        return [one.trace + (snapshot.body(target.tenant, one.digest) or b"") for one in messages(view, folder.id)]


def last_verdicts(cell: Cell) -> Any:
    """Of the newest delivery, as `log show` tells them."""
    with cell.log.snapshot() as snapshot:
        for position in range(snapshot.position, 0, -1):
            for event in record_json(snapshot, position).get("events", []):
                if event["type"] == "MessageDelivered":
                    return event["data"]["verdicts"]
    return None


def set_policy(cell: Cell, **changed: str) -> None:
    cell.call(cell.runtime.ask(VERDICTS, SetVerdictPolicy(**changed), ADMIN))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _default_policy(cell: Cell) -> Iterator[None]:
    yield
    set_policy(cell, dmarc="enforce", on_temporary="accept", ambiguous_author="refuse")


def test_a_signed_message_is_taken_and_says_why(cell: Cell) -> None:
    assert send(cell, signed(letter())) == (250, b"")
    read = in_folder(cell, "INBOX")[-1]
    head = read.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"Return-Path: <bounce@sender.test>\r\nAuthentication-Results: mx.example.test;\r\n")
    assert b"dkim=pass" in head
    assert b"spf=fail smtp.mailfrom=sender.test" in head
    assert b"dmarc=pass (p=reject dis=none) header.from=sender.test" in head.replace(b"\r\n\t", b"")
    found = last_verdicts(cell)
    assert (found["spf"]["result"], found["dkim"][0]["result"], found["dmarc"]["result"]) == ("fail", "pass", "pass")


def test_what_fails_and_is_to_be_rejected_is_refused(cell: Cell) -> None:
    before = len(in_folder(cell, "INBOX"))
    code, text = send(cell, letter())
    assert (code, text[:6]) == (550, b"5.7.26")
    assert len(in_folder(cell, "INBOX")) == before


def test_what_fails_and_is_to_be_set_apart_goes_to_junk(cell: Cell) -> None:
    before = len(in_folder(cell, "Junk"))
    assert send(cell, letter("a@milder.test"), "a@milder.test") == (250, b"")
    assert len(in_folder(cell, "Junk")) == before + 1
    found = last_verdicts(cell)["dmarc"]
    assert (found["policy"], found["requested"], found["disposition"]) == ("quarantine",) * 3


def test_what_is_only_marked_goes_where_other_mail_goes(cell: Cell) -> None:
    set_policy(cell, dmarc="mark")
    before = len(in_folder(cell, "INBOX"))
    assert send(cell, letter()) == (250, b"")
    assert len(in_folder(cell, "INBOX")) == before + 1
    assert last_verdicts(cell)["dmarc"]["result"] == "fail"


def test_a_tenant_may_only_mark_where_the_cell_enforces(cell: Cell) -> None:
    with cell.log.snapshot() as snapshot:
        tenant = account_of(snapshot, "bob@example.test").tenant
    cell.call(cell.runtime.ask(VERDICTS, SetTenantMode(tenant, "mark"), ADMIN))
    assert send(cell, letter())[0] == 250
    cell.call(cell.runtime.ask(VERDICTS, SetTenantMode(tenant, ""), ADMIN))
    assert send(cell, letter())[0] == 550


def test_dns_that_fails_loses_no_mail(cell: Cell) -> None:
    assert send(cell, letter("a@silent.test"), "a@silent.test") == (250, b"")
    assert last_verdicts(cell)["dmarc"]["result"] == "temperror"


def test_mail_is_put_off_where_policy_wants_an_answer_first(cell: Cell) -> None:
    set_policy(cell, on_temporary="defer")
    code, text = send(cell, letter("a@silent.test"), "a@silent.test")
    assert (code, text[:6]) == (451, b"4.7.26")


def test_several_from_fields_are_refused_or_marked(cell: Cell) -> None:
    data = b"From: <a@nowhere.test>\r\n" + letter("a@nowhere.test")
    assert send(cell, data, "a@nowhere.test")[0] == 550
    set_policy(cell, ambiguous_author="mark")
    assert send(cell, data, "a@nowhere.test")[0] == 250


def test_a_forged_claim_to_be_ours_is_not_shown_but_noted(cell: Cell) -> None:
    forged = b"Authentication-Results: mx.example.test; dmarc=pass header.from=bank.test\r\n"
    foreign = b"Authentication-Results: mx.other.test; dmarc=pass\r\n"
    assert send(cell, forged + foreign + signed(letter()))[0] == 250
    read = in_folder(cell, "INBOX")[-1]
    assert read.count(b"Authentication-Results: mx.example.test") == 1
    assert b"bank.test" not in read
    assert foreign + b"DKIM-Signature" in read
    assert last_verdicts(cell)["removed"] == forged.decode()


def test_spf_of_an_aligned_sender_is_enough(cell: Cell) -> None:
    assert send(cell, letter("a@local.test"), "a@local.test") == (250, b"")
    assert last_verdicts(cell)["spf"] == {"result": "pass", "domain": "local.test"}


def test_lmtp_is_not_judged_as_its_client_is_no_stranger(cell: Cell, names: DnsServer) -> None:
    asked = len(names.asked)
    with smtplib.LMTP("127.0.0.1", cell.port("lmtp")) as client:
        client.sendmail("bounce@sender.test", ["bob@example.test"], letter())
    assert last_verdicts(cell) is None
    assert len(names.asked) == asked


def test_a_client_on_this_machine_is_judged_only_where_that_is_wanted(tmp_path: Any, names: DnsServer) -> None:
    with Cell(
        tmp_path,
        checks=lambda cell: (VerdictCheck(cell.config, cell.log, cell.resolver, cell.metrics, cell.reports),),
        dns={"nameservers": [names.address]},
    ) as default:
        asked = len(names.asked)
        assert send(default, letter())[0] == 250
        assert last_verdicts(default) is None
        assert len(names.asked) == asked


def test_what_the_event_holds_is_messagepack(cell: Cell) -> None:
    send(cell, signed(letter()))
    assert msgpack.unpackb(msgpack.packb(last_verdicts(cell)))["client"] == "127.0.0.1"


def test_mail_that_makes_a_judge_stumble_is_set_apart_and_not_put_off_for_ever(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("nodes.verdicts.check.judge", stumble)
    before = len(in_folder(cell, "Junk"))
    assert send(cell, letter()) == (250, b"")
    assert len(in_folder(cell, "Junk")) == before + 1
    assert last_verdicts(cell) == {"error": True}


@pytest.mark.parametrize(
    ("client", "address"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"), ("192.0.2.1", "192.0.2.1"), ("a:b", "a:b")],
)
def test_a_client_is_judged_by_the_address_that_it_has(client: str, address: str) -> None:
    assert _address(client) == address
