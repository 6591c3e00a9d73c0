"""IMAPClient, a library that many programs stand on, against a real node."""

import time
from typing import Any

import pytest

from tests.nodes.imap.node import ADMIN, PASSWORD, Node, User

imapclient = pytest.importorskip("imapclient")


def mail(number: int) -> bytes:
    return b"From: sender@example.org\r\nSubject: number %d\r\nMessage-ID: <%d@example.org>\r\n\r\ntext %d\r\n" % (
        number,
        number,
        number,
    )


def client_of(node: Node, user: User) -> Any:
    client = imapclient.IMAPClient("127.0.0.1", node.port, ssl=False, timeout=20)
    client.login(user.login, PASSWORD)
    return client


def test_a_mailbox_is_worked_with_imapclient(node: Node, user: User) -> None:
    with client_of(node, user) as client:
        assert client.has_capability("MULTIAPPEND")
        client.multiappend("INBOX", [mail(number) for number in range(4)])
        assert client.select_folder("INBOX")[b"EXISTS"] == 4
        assert client.search(["SUBJECT", "number 2"]) == [3]
        fetched = client.fetch([3], ["BODY.PEEK[]", "ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "BINARY.PEEK[1]"])
        assert fetched[3][b"BODY[]"] == mail(2)
        assert fetched[3][b"ENVELOPE"].subject == b"number 2"
        client.add_flags([1, 2], [imapclient.SEEN, "$Later"])
        assert client.get_flags([2])[2] == (b"\\Seen", b"$Later", b"\\Recent")
        client.create_folder("Grüße")
        client.copy([1], "Grüße")
        client.move([2], "Grüße")
        assert client.folder_status("Grüße", ["MESSAGES", "UNSEEN"]) == {b"MESSAGES": 2, b"UNSEEN": 0}
        client.delete_messages([1])
        client.expunge()
        assert client.search("ALL") == [3, 4]
        assert "Grüße" in [name for _, _, name in client.list_folders()]


def test_an_idling_imapclient_hears_of_a_delivery(node: Node, user: User) -> None:
    with client_of(node, user) as client:
        client.select_folder("INBOX")
        client.idle()
        node.deliver(user, mail(1))
        told: list[tuple[object, ...]] = []
        until = time.monotonic() + 20
        while (1, b"EXISTS") not in told and time.monotonic() < until:
            told += client.idle_check(timeout=1)
        client.idle_done()
        assert (1, b"EXISTS") in told


def test_imapclient_shares_a_folder_and_asks_for_quotas(node: Node, user: User) -> None:
    colleague = node.add_user()
    node.call(node.directory.set_quota(user.login, 10 * 1024, ADMIN, 5))
    with client_of(node, user) as own, client_of(node, colleague) as other:
        own.create_folder("Team")
        own.setacl("Team", colleague.login, "lrsi")
        assert dict(own.getacl("Team"))[colleague.login.encode()] == b"lrsi"
        assert other.namespace().other == (("Other Users/", "/"),)
        theirs = f"Other Users/{user.login}/Team"
        other.append(theirs, mail(1))
        assert other.select_folder(theirs)[b"EXISTS"] == 1
        used = {quota.resource: (quota.usage, quota.limit) for quota in own.get_quota("INBOX")}
        assert used == {"STORAGE": (1, 10), "MESSAGE": (1, 5)}
