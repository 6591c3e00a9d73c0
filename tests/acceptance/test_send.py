"""`mailraft send`, `dkim` and `doctor` against a running cluster."""

from __future__ import annotations

import imaplib
import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from chaos.cluster import ClusterError
from tests.acceptance.site import ALICE, BOB, Site


def with_subject(site: Site, address: str, subject: str) -> EmailMessage:
    """The one message of that subject in an INBOX, read on another node than any."""
    host, _, port = site.endpoints("imap")[-1].rpartition(":")
    with imaplib.IMAP4(host, int(port)) as client:
        client.starttls()
        client.login(address, site.password)
        client.select("INBOX", readonly=True)
        _, found = client.search(None, "SUBJECT", f'"{subject}"')
        (number,) = found[0].split()
        _, fetched = client.fetch(number.decode(), "(BODY.PEEK[])")
    message = message_from_bytes(fetched[0][1], policy=policy.default)  # type: ignore[index, arg-type]
    assert isinstance(message, EmailMessage)
    return message


def test_a_message_with_an_attachment_is_delivered(site: Site, tmp_path: Path) -> None:
    attached = tmp_path / "list.csv"
    attached.write_bytes(b"a,b\n1,2\n")
    words = ("--from", ALICE, "--to", BOB, "--subject", "with a list", "--attach", str(attached))
    site.cluster.command("send", *words, stdin="Dear Bob,\nsee the list. ä\n")
    message = with_subject(site, BOB, "with a list")
    text, part = message.get_body(), next(message.iter_attachments())
    assert text is not None
    assert text.get_content().split() == ["Dear", "Bob,", "see", "the", "list.", "ä"]
    assert (part.get_filename(), part.get_payload(decode=True)) == ("list.csv", b"a,b\n1,2\n")


def test_a_whole_message_is_sent_as_it_is(site: Site) -> None:
    raw = f"From: {ALICE}\nTo: {BOB}\nSubject: as it is\nX-Odd: 1\n\n.\n..\nend\n"
    site.cluster.command("send", "--from", ALICE, "--to", BOB, "--raw", stdin=raw)
    message = with_subject(site, BOB, "as it is")
    assert message["X-Odd"] == "1"
    assert message.get_payload() == ".\r\n..\r\nend\r\n"


def test_a_sender_that_is_not_ours_and_a_recipient_that_nobody_is_are_refused(site: Site) -> None:
    with pytest.raises(ClusterError, match=r"elsewhere\.test is not one of our domains"):
        site.cluster.command("send", "--from", "x@elsewhere.test", "--to", BOB, "--body", "x")
    with pytest.raises(ClusterError, match=r"nobody@example\.test"):
        site.cluster.command("send", "--from", ALICE, "--to", "nobody@example.test", "--body", "x")


def test_keys_are_made_sign_are_rotated_and_go(site: Site) -> None:
    made = json.loads(site.cluster.command("dkim", "generate", "example.test", "--active", "--json"))["keys"]
    assert {key["algorithm"] for key in made} == {"rsa-sha256", "ed25519-sha256"}
    assert site.cluster.command("dkim", "dns", "example.test").count("IN TXT") == 2
    site.cluster.command("send", "--from", ALICE, "--to", BOB, "--subject", "signed", "--body", "x")
    signatures = with_subject(site, BOB, "signed").get_all("DKIM-Signature", [])
    assert {str(one).partition("s=")[2].partition(";")[0] for one in signatures} == {key["selector"] for key in made}
    rotated = json.loads(site.cluster.command("dkim", "rotate", "--all", "--active", "--json"))["domains"]
    assert "example.test" in {one["domain"] for one in rotated}
    states = [
        key["state"] for key in json.loads(site.cluster.command("dkim", "show", "example.test", "--json"))["keys"]
    ]
    assert sorted(states) == ["active", "active", "retired", "retired"]
    with pytest.raises(ClusterError, match="mail is signed with"):
        site.cluster.command("dkim", "delete", "example.test", f"{made[0]['selector']}-2")
    for key in made:
        site.cluster.command("dkim", "delete", "example.test", key["selector"])
        site.cluster.command("dkim", "delete", "example.test", f"{key['selector']}-2", "--force")
    assert json.loads(site.cluster.command("dkim", "show", "example.test", "--json"))["keys"] == []
    why = ("--reason", "a test", "--yes", "--json")
    erased = json.loads(site.cluster.command("log", "redact", "--dkim", "example.test", *why))
    assert (len(erased["events"]), erased["not_erased"]) == (2, {})
    with pytest.raises(ClusterError, match="dkim delete"):
        site.cluster.command("log", "redact", "--dkim", "example.test", *why)


def test_a_schedule_is_told(site: Site) -> None:
    site.cluster.command("dkim", "schedule", "example.test", "--every", "90", "--overlap", "10")
    shown = json.loads(site.cluster.command("dkim", "show", "example.test", "--json"))
    assert shown["schedule"] == {"every_ms": 90 * 86_400_000, "overlap_ms": 10 * 86_400_000}
    site.cluster.command("dkim", "schedule", "example.test", "--off")


def test_the_doctor_says_what_is_wrong_with_a_domain_that_is_not_in_dns(site: Site) -> None:
    with pytest.raises(ClusterError, match=r"of the findings on example\.test are errors"):
        site.cluster.command("doctor", "example.test", "--json")
    with pytest.raises(ClusterError, match=r"elsewhere\.test is not one of our domains"):
        site.cluster.command("doctor", "elsewhere.test")
