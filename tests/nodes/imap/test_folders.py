"""Commands on mailboxes that are refused change nothing."""

from collections.abc import Callable

from tests.nodes.imap.client import RawClient


def test_a_selected_inbox_stays_selected_when_it_can_not_be_deleted(login: Callable[[], RawClient]) -> None:
    client = login()
    client.ok("SELECT INBOX")
    assert client.command("DELETE INBOX")[-1].startswith(b"NO [CANNOT]")
    assert client.ok("UID SEARCH ALL") == [b"* SEARCH"]


def test_a_selected_mailbox_that_is_deleted_is_selected_no_more(login: Callable[[], RawClient]) -> None:
    client = login()
    client.ok("CREATE own")
    client.ok("SELECT own")
    client.ok("DELETE own")
    assert client.command("UID SEARCH ALL")[-1].startswith(b"BAD ")
