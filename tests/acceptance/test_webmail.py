"""A webmail, Roundcube: what people do with their mail, over IMAP at one node and submission at another."""

from email import policy
from email.parser import BytesParser
from pathlib import Path
from time import monotonic

import pytest
from imapclient import IMAPClient

from tests.acceptance.site import Site
from tests.nodes.imap.recorded import SESSIONS, Relay
from tests.peers.roundcube import Browser, roundcube

ANN, BEN = "ann@webmail.test", "ben@webmail.test"
PICTURE = bytes(range(256)) * 8
TEXT = "Ein Körper mit Umlauten\n\n-- \nAnn\n"


def mail(number: int) -> bytes:
    return (
        f"From: {BEN}\r\nTo: {ANN}\r\nSubject: number {number}\r\nMessage-ID: <{number}@webmail.test>\r\n"
        f"Date: Sat, 21 Nov 2026 10:0{number}:00 +0000\r\nContent-Type: text/plain\r\n\r\nword{number}\r\n"
    ).encode()


def subjects(rows: dict[str, dict[str, str]]) -> list[str]:
    return [one["subject"] for one in rows.values()]


def read_and_tidy_up(browser: Browser) -> None:
    inbox = browser.messages("INBOX")
    assert subjects(inbox) == ["number 3", "number 2", "number 1", "number 0"]
    uid = {one["subject"][-1]: uid for uid, one in inbox.items()}
    assert "word2" in browser.page(_task="mail", _action="show", _mbox="INBOX", _uid=uid["2"])
    found = browser.ask("search", _mbox="INBOX", _q="number 1", _headers="subject", _scope="base")
    assert subjects(browser.rows(found)) == ["number 1"]
    found = browser.ask("search", _mbox="INBOX", _q="word3", _headers="text", _scope="all")
    assert subjects(browser.rows(found)) == ["number 3"]
    browser.page(_task="mail", _mbox="INBOX")
    browser.ask("mark", {"_uid": uid["1"], "_mbox": "INBOX", "_flag": "flagged"})
    browser.ask("move", {"_uid": uid["0"], "_mbox": "INBOX", "_target_mbox": "Archive"})
    browser.ask("move", {"_uid": uid["3"], "_mbox": "INBOX", "_target_mbox": "Trash"})  # what its key Delete does
    left = browser.messages("INBOX")
    assert subjects(left) == ["number 2", "number 1"]
    assert (left[uid["2"]]["seen"], left[uid["1"]]["flagged"]) == (1, 1)
    assert subjects(browser.messages("Archive")) == ["number 0"]
    (uid_in_trash,) = browser.messages("Trash")
    browser.ask("delete", {"_uid": uid_in_trash, "_mbox": "Trash"})
    assert browser.messages("Trash") == {}


def test_roundcube_works_a_mailbox_and_sends_from_it(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    password = site.cluster.add_accounts("webmail", (ANN, BEN))
    host, _, port = site.endpoints("imap")[0].rpartition(":")
    imap, submission = f"tls://{host}:{port}", f"tls://{site.endpoints('submission')[1]}"
    relay = Relay(int(port)) if request.config.getoption("--rewrite-scripts") else None
    if relay is not None:
        imap = f"{host}:{relay.port}"

    def client(login: str) -> IMAPClient:
        opened = IMAPClient(host, int(port), ssl=False)
        opened.login(login, password)
        opened.select_folder("INBOX")
        return opened

    with client(ANN) as ann:
        for number in range(4):
            ann.append("INBOX", mail(number))
            if relay is not None:
                relay.note(f"deliver number {number}")
    with roundcube(tmp_path, imap=imap, submission=submission, ca=site.ca) as browser:
        browser.log_in(ANN, password)
        assert {"INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"} <= set(browser.env["mailboxes"])
        read_and_tidy_up(browser)
        browser.send(BEN, "Grüße", TEXT, ("picture.bin", PICTURE))
        assert subjects(browser.messages("Sent")) == ["Grüße"]
    if relay is not None:
        relay.close()
        head = "# Roundcube of Debian, as it was on the wire in tests/acceptance/test_webmail.py\n"
        (SESSIONS / "roundcube.txt").write_text(head + "\n".join(relay.lines) + "\n", errors="surrogateescape")
    with client(BEN) as ben:
        until = monotonic() + 20
        while not ben.search() and monotonic() < until:
            ben.idle()
            ben.idle_check(1)
            ben.idle_done()
        (fetched,) = ben.fetch(ben.search(), ["BODY[]"]).values()
    came = BytesParser(policy=policy.default).parsebytes(fetched[b"BODY[]"])
    assert (came["Subject"], came["From"], came["To"]) == ("Grüße", ANN, BEN)
    body, attached = came.iter_parts()
    assert body.get_content().splitlines() == TEXT.splitlines()
    assert (attached.get_filename(), attached.get_content()) == ("picture.bin", PICTURE)
