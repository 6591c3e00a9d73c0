"""Rspamd, clamd, opendkim and opendmarc of Debian behind a cell: they are understood, and understand what we sign."""

from __future__ import annotations

import os
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import dkim
import pytest

from actors.verdicts import VERDICTS, SetVerdictPolicy
from nodes.dkim_admin import DkimAdmin
from nodes.dkim_keys import record_name, record_value, zone_line
from nodes.verdicts.check import VerdictCheck
from tests.nodes.filters.filtered import ALICE, LETTER, filtered, found, kept, send
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue
from tests.nodes.verdicts.letters import key_record, letter, pem, private_key, signed
from tests.peers import filter_programs
from tests.peers.dns_server import DnsServer
from tests.peers.filter_programs import EICAR, GTUBE, Program

BOB = "bob@example.test"
RESOLVER_HOST = "127.0.0.118"  # port 53, the only one that resolv.conf knows: an address that nothing else has
UNAVAILABLE = "451 4.7.1 A filter is not available at the moment, try again later"
SIGNED = signed(letter())


def _txt(name: str, text: str) -> str:
    return f"{name}. TXT " + " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))


@pytest.fixture(scope="module")
def names() -> Iterator[DnsServer]:
    zone = [
        _txt("s._domainkey.sender.test", key_record(private_key())),
        _txt("sender.test", "v=spf1 ip4:203.0.113.0/24 -all"),
        _txt("_dmarc.sender.test", "v=DMARC1; p=reject"),
        _txt("_dmarc.example.test", "v=DMARC1; p=reject"),
    ]
    with DnsServer("\n".join(zone)) as server:
        yield server


@pytest.fixture(scope="module")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with filter_programs.clamd(tmp_path_factory.mktemp("clamd")) as program:
        yield program


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory: pytest.TempPathFactory, names: DnsServer) -> Iterator[Program]:
    with filter_programs.rspamd(tmp_path_factory.mktemp("rspamd"), names.address) as program:
        yield program


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, clamd: Program) -> Iterator[Cell]:
    with filtered(tmp_path_factory.mktemp("scanned"), {"filters": {"clamav": clamd.address}}) as cell:
        yield cell


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, rspamd: Program) -> Iterator[Cell]:
    sections = {
        "filters": {"rspamd": rspamd.address},
        "rspamd": {"timeout_s": 60},
        "smtp": {"xclient_from": ["127.0.0.1"]},
    }
    with filtered(tmp_path_factory.mktemp("judged"), sections) as cell:
        yield cell


def submit(cell: Cell, data: bytes, recipient: str = BOB) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as submitter:
        submitter.login(ALICE, "secret of alice")
        submitter.sendmail(ALICE, [recipient], data)


def our_letter(cell: Cell, names: DnsServer) -> bytes:
    """What a user of ours sends, as it leaves here; its keys are in the DNS."""
    cell.call(DkimAdmin(cell.services).generate("example.test", ADMIN, active=True))
    for key in DkimAdmin(cell.services).keys("example.test"):
        names.add(zone_line("example.test", key).replace(" IN ", " "))
    submit(cell, letter(ALICE))
    return kept(cell, address=BOB)[-1].partition(b"\r\n")[2]


def from_elsewhere(cell: Cell, data: bytes, sender: str) -> str:
    """As a server at 203.0.113.9 would bring it."""
    client = Dialogue(cell.port("smtp"), timeout_s=30)
    client.read()
    client.ask("EHLO proxy.test")
    assert client.ask("XCLIENT ADDR=203.0.113.9 NAME=mx.sender.test HELO=mx.sender.test").startswith("220")
    client.ask("EHLO mx.sender.test")
    client.begin(ALICE, sender=sender)
    reply = client.transfer(data)
    client.close()
    return reply


# ClamAV


def test_clamd_finds_the_test_virus_and_nothing_in_other_mail(scanned: Cell) -> None:
    assert send(scanned).startswith("250")
    assert found(scanned) == {"clamav": {"found": ""}}
    assert send(scanned, LETTER + EICAR + b"\r\n") == "550 5.7.1 The message contains Test.Eicar.UNOFFICIAL"
    with pytest.raises(smtplib.SMTPDataError, match="contains Test"):
        submit(scanned, LETTER + EICAR + b"\r\n")


def test_clamd_finds_it_at_the_end_of_a_large_message_and_says_what_is_too_large(scanned: Cell) -> None:
    filling = (b"x" * 76 + b"\r\n") * 11_000
    assert send(scanned, LETTER + filling + EICAR + b"\r\n").startswith("550 5.7.1")
    assert send(scanned, LETTER + filling * 2).startswith("250")
    assert found(scanned) == {"clamav": {"skipped": "large"}}


def test_a_clamd_that_is_killed_in_mid_message_puts_the_mail_off(tmp_path: Path) -> None:
    with (
        filter_programs.clamd(tmp_path / "clamd") as clamd,
        filtered(tmp_path, {"filters": {"clamav": clamd.address, "retry_s": 3600}}) as cell,
    ):
        assert send(cell).startswith("250")
        clamd.send(signal.SIGSTOP)
        client = Dialogue(cell.port("smtp"), timeout_s=30)
        client.read()
        client.ask("EHLO client.test")
        client.begin(ALICE)
        client.ask("DATA")
        client.send(LETTER + b".\r\n")
        clamd.send(signal.SIGKILL)
        assert client.read() == UNAVAILABLE
        client.close()
        assert len(kept(cell)) == 1


# Rspamd


def test_rspamds_word_stands_in_front_and_in_the_event(judged: Cell) -> None:
    assert from_elsewhere(judged, SIGNED, "a@sender.test").startswith("250")
    symbols = found(judged)["rspamd"]["symbols"]
    assert {"R_DKIM_ALLOW", "R_SPF_ALLOW", "DMARC_POLICY_ALLOW"} <= symbols.keys()
    read = kept(judged)[-1]
    assert b"\r\nX-Spamd-Result: default: False [" in read.partition(b"\r\nReceived: ")[0]
    assert read.endswith(SIGNED)


def test_what_rspamd_rejects_is_refused_and_what_it_marks_goes_to_junk(judged: Cell) -> None:
    assert send(judged, LETTER + GTUBE + b"\r\n") == "550 5.7.1 Gtube pattern"
    assert send(judged, LETTER + GTUBE.replace(b"X", b"Y", 1) + b"\r\n").startswith("250")
    assert found(judged)["rspamd"]["action"] == "add header"
    assert b"\r\nX-Spam: Yes\r\n" in kept(judged, "Junk")[-1]
    assert send(judged, LETTER + GTUBE.replace(b"X", b"Z", 1) + b"\r\n").startswith("250")
    assert found(judged)["rspamd"]["not_applied"] == ["rewrite subject"]


def test_rspamd_verifies_our_signatures_and_sees_when_they_do_not_hold(judged: Cell, names: DnsServer) -> None:
    data = our_letter(judged, names)
    assert from_elsewhere(judged, data, ALICE).startswith("250")
    symbols = found(judged)["rspamd"]["symbols"]
    assert {"R_DKIM_ALLOW", "DMARC_POLICY_ALLOW"} <= symbols.keys()
    from_elsewhere(judged, data.replace(b"Hello.", b"Hullo."), ALICE)
    assert "R_DKIM_REJECT" in found(judged)["rspamd"]["symbols"]


# opendkim, a real milter


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory, names: DnsServer) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("verifier")
    (folder / "keys").write_text("s._domainkey.sender.test " + key_record(private_key()) + "\n")
    lines = ("Mode v", f"TestPublicKeys {folder}/keys", "AlwaysAddARHeader yes", "AuthservID judge.test")
    with filter_programs.opendkim(folder, *lines) as program:
        yield program


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory, verifier: Program) -> Iterator[Cell]:
    sections = {"filters": {"milters": [f"opendkim={verifier.address}"]}}
    with filtered(tmp_path_factory.mktemp("verified"), sections) as cell:
        yield cell


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (SIGNED, b"dkim=pass"),
        (SIGNED.replace(b"Hello.", b"Hullo."), b"dkim=fail"),
        (letter(), b"dkim=none"),
    ],
)
def test_a_milter_that_verifies_sees_the_exact_message(verified: Cell, data: bytes, result: bytes) -> None:
    assert send(verified, data).startswith("250")
    read = kept(verified)[-1]
    front = read.partition(b"\r\nReceived: ")[0]
    assert b"Authentication-Results: judge.test;" in front
    assert result in front
    assert read.endswith(data)


def test_a_milter_serves_several_messages_of_a_session(verified: Cell) -> None:
    client = Dialogue(verified.port("smtp"), timeout_s=30)
    client.read()
    client.ask("EHLO client.test")
    for data in (SIGNED, letter(), SIGNED):
        client.begin(ALICE)
        assert client.transfer(data).startswith("250")
    client.close()
    assert [b"dkim=pass" in one for one in kept(verified)[-3:]] == [True, False, True]


def test_opendkim_verifies_our_signatures(tmp_path: Path, names: DnsServer) -> None:
    with filtered(tmp_path / "sender", {}) as sender:
        data = our_letter(sender, names)
        keys = DkimAdmin(sender.services).keys("example.test")
    known = [(record_name("example.test", key.selector), record_value(key.algorithm, key.public)) for key in keys]
    lines = [f"{name.removesuffix('.')} {value}" for name, value in known]
    (tmp_path / "keys").write_text("\n".join(lines) + "\n")
    configuration = ("Mode v", f"TestPublicKeys {tmp_path}/keys", "AlwaysAddARHeader yes", "AuthservID judge.test")
    with (
        filter_programs.opendkim(tmp_path / "verifier", *configuration) as verifier,
        filtered(tmp_path / "receiver", {"filters": {"milters": [f"opendkim={verifier.address}"]}}) as cell,
    ):
        assert send(cell, data).startswith("250")
        front = kept(cell)[-1].partition(b"\r\nReceived: ")[0]
        assert b"dkim=pass" in front
        assert b"dkim=fail" not in front


def test_a_milter_that_signs_has_its_signature_in_front_of_what_is_sent(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(pem(private_key()))
    key.chmod(0o600)
    lines = ("Mode s", "Domain example.test", "Selector s", f"KeyFile {key}", "InternalHosts 127.0.0.1")
    with filter_programs.opendkim(tmp_path / "signer", *lines) as signer:
        sections = {
            "filters": {"milters": [f"signer={signer.address}"]},
            "milter": {"listeners": ["submission"]},
        }
        with filtered(tmp_path / "cell", sections) as cell:
            submit(cell, letter(ALICE), "far@away.test")
            (item,) = cell.queued()["away.test"]
    assert b"DKIM-Signature: v=1; a=rsa-sha256;" in item.trace
    record = key_record(private_key()).encode()
    assert dkim.verify(item.trace + letter(ALICE), dnsfunc=lambda name, timeout=5: record)


# opendmarc, a milter that goes by what we found


@pytest.mark.skipif(os.geteuid() != 0, reason="a name server for opendmarc needs port 53, and so root")
def test_opendmarc_in_front_refuses_by_our_results_what_its_author_wants_refused(tmp_path: Path) -> None:
    zone = [
        _txt("sender.com", "v=spf1 ip4:203.0.113.0/24 -all"),
        _txt("_dmarc.sender.com", "v=DMARC1; p=reject"),
        _txt("s._domainkey.sender.com", key_record(private_key())),
    ]
    lines = ("AuthservID judge.test", "TrustedAuthservIDs mx.example.test", "RejectFailures true")
    with (
        DnsServer("\n".join(zone), host=RESOLVER_HOST, port=53) as names,
        filter_programs.opendmarc(tmp_path / "judge", RESOLVER_HOST, *lines) as judge,
        filtered(
            tmp_path / "cell",
            {
                "filters": {"milters": [f"opendmarc={judge.address}"]},
                "verdicts": {"judge": "always"},
                "smtp": {"xclient_from": ["127.0.0.1"]},
            },
            dns={"nameservers": [names.address]},
            before=lambda cell: (VerdictCheck(cell.config, cell.log, cell.resolver, cell.metrics, cell.reports),),
        ) as cell,
    ):
        cell.call(cell.runtime.ask(VERDICTS, SetVerdictPolicy(dmarc="mark"), ADMIN))
        honest = signed(letter("a@sender.com"), "sender.com")
        assert from_elsewhere(cell, honest, "x@other.test").startswith("250")
        front = kept(cell)[-1].partition(b"\r\nReceived: ")[0]
        assert front.index(b"Authentication-Results: mx.example.test;") < front.index(
            b"Authentication-Results: judge.test; dmarc=pass"
        )
        forged = letter("a@sender.com")
        assert from_elsewhere(cell, forged, "x@other.test").startswith("550 5.7.1 rejected by DMARC policy")


def test_a_milter_that_is_killed_between_two_commands_is_asked_anew(tmp_path: Path) -> None:
    lines = ("Mode v", "AlwaysAddARHeader yes", "AuthservID judge.test")
    with filter_programs.opendkim(tmp_path / "first", *lines) as first:
        address = first.address
        with filtered(tmp_path / "cell", {"filters": {"milters": [f"opendkim={address}"], "retry_s": 3600}}) as cell:
            client = Dialogue(cell.port("smtp"), timeout_s=30)
            client.read()
            client.ask("EHLO client.test")
            client.begin(ALICE)
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait()
            with filter_programs.opendkim(tmp_path / "first", *lines):
                assert client.transfer(letter()).startswith("250")
            client.close()
            assert b"dkim=none" in kept(cell)[-1]
