"""imapclient keeps a copy of a mailbox by MODSEQ, names its folders in Unicode and reads its messages' ids."""

import pytest

from tests.nodes.imap.node import PASSWORD, Node, User

imapclient = pytest.importorskip("imapclient")


def test_imapclient_fetches_what_changed_and_stores_what_did_not(node: Node, user: User) -> None:
    node.deliver(user, *[b"Subject: %d\r\n\r\nx\r\n" % number for number in range(4)])
    with imapclient.IMAPClient("127.0.0.1", node.port, ssl=False, timeout=20) as client:
        client.login(user.login, PASSWORD)
        assert client.enable("CONDSTORE", "X-OTHER") == [b"CONDSTORE"]
        selected = client.select_folder("INBOX")
        since = selected[b"HIGHESTMODSEQ"]
        assert client.folder_status("INBOX", ["HIGHESTMODSEQ"]) == {b"HIGHESTMODSEQ": since}
        client.add_flags([2], ["\\Flagged"])
        changed = client.fetch([1, 2, 3, 4], ["FLAGS", "MODSEQ"], [f"CHANGEDSINCE {since}"])
        assert list(changed) == [2]
        assert changed[2][b"MODSEQ"] == (since + 1,)
        assert client.fetch([1, 2, 3, 4], ["FLAGS"], [f"CHANGEDSINCE {since + 1}"]) == {}
        client.delete_messages([1, 3])
        client.expunge()
        assert sorted(client.fetch([1, 2, 3, 4], ["EMAILID", "THREADID", "SAVEDATE"])) == [2, 4]


def test_imapclient_lists_names_outside_ascii(node: Node, user: User) -> None:
    with imapclient.IMAPClient("127.0.0.1", node.port, ssl=False, timeout=20) as client:
        client.login(user.login, PASSWORD)
        client.create_folder("Entwürfe/日本")
        assert "Entwürfe/日本" in [name for _, _, name in client.list_folders()]
        assert client.select_folder("Entwürfe/日本")[b"EXISTS"] == 0
