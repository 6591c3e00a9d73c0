"""SORT and THREAD over real connections, with a raw client and with imapclient; RFC 5256, RFC 5957, RFC 5267."""

from collections.abc import Callable, Iterator

import imapclient
import pytest

from nodes.imap.sort_keys import SortKeyCache, sort_keys
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User
from tests.nodes.imap.test_searching import mail, one

Login = Callable[[], RawClient]

MAILS = (
    mail(
        "beta", "Zoe <carl@example.org>", "Cc: zed@x\r\nDate: Mon, 7 Feb 1994 12:00:00 +0000\r\nMessage-ID: <1@x>\r\n"
    ),
    mail("Re: ALPHA", "adam@example.org", "Date: Mon, 7 Feb 1994 23:00:00 -0800\r\nReferences: <3@x>\r\n", "x" * 250),
    mail(
        "alpha",
        '"=?utf-8?q?=C3=84nne?=" <berta@example.org>',
        "Date: Mon, 7 Feb 1994 11:00:00 +0900\r\nMessage-ID: <3@x>\r\n",
    ),
    mail("[list] Fwd: Beta (fwd)", "Anton <BERTA@example.net>", "Cc: group:g@x;\r\nReferences: <1@x>\r\n", "x" * 400),
)


@pytest.fixture
def client(node: Node, user: User, login: Login) -> RawClient:
    """INBOX is selected; message 4 has no Date and came last. ARRIVAL is in the order 1, 2, 3, 4."""
    client = login()
    for n, data in enumerate(MAILS, 1):
        assert client.append("INBOX", data, f'"{n:02}-Mar-1994 00:00:00 +0000" ').startswith(b"OK")
    client.ok("SELECT INBOX")
    return client


@pytest.mark.parametrize(
    ("criteria", "order"),
    [
        ("ARRIVAL", "1 2 3 4"),
        ("REVERSE ARRIVAL", "4 3 2 1"),
        ("DATE", "3 1 2 4"),  # in UTC; the internal date stands in
        ("SUBJECT", "2 3 1 4"),  # base subjects, without case
        ("SUBJECT DATE", "3 2 1 4"),
        ("REVERSE SUBJECT", "1 4 2 3"),  # equal ones stay in order
        ("FROM", "2 3 4 1"),
        ("CC", "2 3 4 1"),
        ("SIZE", "1 3 2 4"),
        ("TO", "1 2 3 4"),
        ("DISPLAYFROM", "2 4 3 1"),  # an umlaut comes behind its letter (RFC 5051)
        ("DISPLAYTO", "1 2 3 4"),
        ("SUBJECT REVERSE DATE", "2 3 4 1"),
    ],
)
def test_rfc_5256_3_and_rfc_5957_3_sort_keys(client: RawClient, criteria: str, order: str) -> None:
    assert one(client, f"SORT ({criteria}) UTF-8 ALL") == b"* SORT " + order.encode()


def test_rfc_5256_3_the_examples_of_sort(client: RawClient) -> None:
    assert one(client, "SORT (SUBJECT) UTF-8 SINCE 2-Mar-1994") == b"* SORT 2 3 4"
    assert one(client, "UID SORT (SUBJECT REVERSE DATE) US-ASCII ALL") == b"* SORT 2 3 4 1"
    assert one(client, 'SORT (SUBJECT) US-ASCII TEXT "not in mailbox"') == b"* SORT"
    assert client.command("SORT (SUBJECT) X-KLINGON ALL")[-1].startswith(b"NO [BADCHARSET")


def test_rfc_5267_3_a_sort_with_result_options_keeps_its_order(client: RawClient) -> None:
    assert one(client, "SORT RETURN (ALL COUNT) (SUBJECT) UTF-8 ALL") == b'* ESEARCH (TAG "T") COUNT 4 ALL 2:3,1,4'
    assert one(client, "UID SORT RETURN (MIN MAX) (REVERSE SIZE) UTF-8 ALL") == b'* ESEARCH (TAG "T") UID MIN 4 MAX 1'
    assert one(client, "SORT RETURN (PARTIAL 2:3) (DATE) UTF-8 ALL") == b'* ESEARCH (TAG "T") PARTIAL (2:3 1:2)'
    assert client.ok("SORT RETURN (SAVE) (SIZE) UTF-8 1,3") == []
    assert one(client, "SEARCH $") == b"* SEARCH 1 3"


def test_rfc_5256_3_threads_by_subject_and_by_references(client: RawClient) -> None:
    assert one(client, "THREAD ORDEREDSUBJECT UTF-8 ALL") == b"* THREAD (3 2)(1 4)"
    assert one(client, "UID THREAD REFERENCES US-ASCII ALL") == b"* THREAD (3 2)(1 4)"
    assert one(client, "THREAD REFERENCES UTF-8 2,4") == b"* THREAD (2)(4)"
    assert one(client, "THREAD REFERENCES UTF-8 DRAFT") == b"* THREAD"


def test_a_sort_sees_its_own_mailbox_as_it_was_told(client: RawClient, login: Login) -> None:
    other = login()
    other.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    lines = client.ok("SORT (ARRIVAL) UTF-8 ALL")
    assert b"* SORT 2 3 4" in lines
    assert not [line for line in lines if line.endswith(b"EXPUNGE")], "numbers do not move under SORT"
    assert b"* 1 EXPUNGE" in client.ok("NOOP")


@pytest.fixture
def real(node: Node, user: User, client: RawClient) -> Iterator[imapclient.IMAPClient]:
    with imapclient.IMAPClient("127.0.0.1", node.port, ssl=False, timeout=20) as found:
        found.login(user.login, PASSWORD)
        found.select_folder("INBOX")
        yield found


def test_imapclient_searches_sorts_and_threads(real: imapclient.IMAPClient) -> None:
    assert {b"ESEARCH", b"SORT", b"SORT=DISPLAY", b"THREAD=REFERENCES", b"WITHIN"} <= set(real.capabilities())
    assert real.search(["FROM", "berta", "NOT", ["SUBJECT", "alpha"]]) == [4]
    assert real.search(["FROM", "änne"], "UTF-8") == [3]
    assert real.sort(["SUBJECT", "REVERSE DATE"]) == [2, 3, 4, 1]
    assert real.thread("REFERENCES") == ((3, 2), (1, 4))


def test_sort_keys_of_rubbish_are_there_and_are_kept_within_bounds() -> None:
    for data in (b"", b"\xff\x00", b"Date: x\r\nFrom: <<<\r\nReferences: <<@>>\r\n\r\n", b"Subject: " + b"[" * 100_000):
        keys = sort_keys(data)
        assert keys.sent_ms is None
    cache = SortKeyCache(10_000)
    for n in range(100):
        cache.put(b"t", b"%d" % n, sort_keys(b"Subject: %d\r\n\r\n" % n))
    assert cache.get(b"t", b"0") is None
    assert cache.get(b"other", b"99") is None
    assert (kept := cache.get(b"t", b"99")) is not None
    assert kept.subject == "99"
