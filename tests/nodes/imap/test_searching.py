"""Searching over real connections: result options, `$`, pages, several mailboxes; examples of the RFCs by section."""

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import Node, User

Login = Callable[[], RawClient]


def mail(subject: str, sender: str = "a@example.org", more: str = "", text: str = "text") -> bytes:
    return f"From: {sender}\r\nTo: b@example.test\r\nSubject: {subject}\r\n{more}\r\n{text}\r\n".encode()


@pytest.fixture
def client(node: Node, user: User, login: Login) -> RawClient:
    """Has INBOX selected with five messages: 2 and 5 are \\Flagged."""
    node.deliver(user, *(mail(f"number {n}") for n in range(1, 6)))
    client = login()
    client.ok("SELECT INBOX")
    client.ok("STORE 2,5 +FLAGS.SILENT (\\Flagged)")
    return client


def one(client: RawClient, text: str) -> bytes:
    """The only untagged response, with the tag of the command as T."""
    lines = client.ok(text)
    assert len(lines) == 1, lines
    return lines[0].replace(b'(TAG "t%d"' % client.tags, b'(TAG "T"')


def test_rfc_4731_3_1_result_options_say_what_is_returned(client: RawClient) -> None:
    assert one(client, "SEARCH RETURN (MIN COUNT) FLAGGED") == b'* ESEARCH (TAG "T") MIN 2 COUNT 2'
    assert one(client, "SEARCH RETURN () FLAGGED") == b'* ESEARCH (TAG "T") ALL 2,5'
    assert one(client, "UID SEARCH RETURN (MIN MAX) ALL") == b'* ESEARCH (TAG "T") UID MIN 1 MAX 5'
    assert one(client, "UID SEARCH RETURN (ALL) 1:3,5") == b'* ESEARCH (TAG "T") UID ALL 1:3,5'
    assert one(client, "SEARCH FLAGGED") == b"* SEARCH 2 5"


def test_rfc_4731_3_1_nothing_found_has_no_min_max_or_all(client: RawClient) -> None:
    assert one(client, "SEARCH RETURN (MIN MAX ALL COUNT) DRAFT") == b'* ESEARCH (TAG "T") COUNT 0'
    assert one(client, "UID SEARCH RETURN (MIN) DRAFT") == b'* ESEARCH (TAG "T") UID'
    assert one(client, "SEARCH DRAFT") == b"* SEARCH"


def test_rfc_5182_2_3_a_saved_result_is_used_by_fetch_store_copy_and_search(client: RawClient) -> None:
    assert client.ok("SEARCH RETURN (SAVE) FLAGGED") == []
    assert [line.split()[1] for line in client.ok("FETCH $ (UID)")] == [b"2", b"5"]
    assert one(client, "UID SEARCH UID $ 3:*") == b"* SEARCH 5"
    assert one(client, "SEARCH RETURN (SAVE COUNT) $ NOT 2") == b'* ESEARCH (TAG "T") COUNT 1'
    assert len(client.ok("STORE $ +FLAGS (\\Answered)")) == 1
    client.ok("UID COPY $ Archive")
    assert one(client, "SEARCH ANSWERED") == b"* SEARCH 5"
    assert b"MESSAGES 1" in client.ok("STATUS Archive (MESSAGES)")[0]


def test_rfc_5182_2_1_min_and_max_save_only_what_they_tell(client: RawClient) -> None:
    client.ok("SEARCH RETURN (SAVE MIN MAX) ALL")
    assert one(client, "SEARCH $") == b"* SEARCH 1 5"
    client.ok("SEARCH RETURN (SAVE MIN COUNT) ALL")
    assert one(client, "SEARCH $") == b"* SEARCH 1 2 3 4 5"
    client.ok("UID SEARCH RETURN (SAVE PARTIAL 2:3) ALL")
    assert one(client, "SEARCH $") == b"* SEARCH 2 3"


def test_rfc_5182_2_1_what_is_expunged_leaves_the_saved_result_and_select_empties_it(client: RawClient) -> None:
    client.ok("SEARCH RETURN (SAVE) FLAGGED")
    client.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    client.ok("EXPUNGE")
    assert one(client, "SEARCH $") == b"* SEARCH 3"
    client.ok("UID STORE $ +FLAGS.SILENT (\\Deleted)")
    assert client.ok("UID EXPUNGE $") == [b"* 3 EXPUNGE"]
    client.ok("SEARCH RETURN (SAVE) ALL")
    client.ok("SELECT INBOX")
    assert one(client, "SEARCH $") == b"* SEARCH"
    assert client.ok("FETCH $ (UID)") == []


def test_rfc_5182_2_1_a_refused_search_empties_the_saved_result_and_a_bad_one_does_not(client: RawClient) -> None:
    client.ok("SEARCH RETURN (SAVE) FLAGGED")
    assert client.command("SEARCH RETURN (SAVE FROB) ALL")[-1].startswith(b"BAD")
    assert one(client, "SEARCH $") == b"* SEARCH 2 5"
    assert client.command("SEARCH RETURN (SAVE) CHARSET X-NONE ALL")[-1].startswith(b"NO [BADCHARSET")


def test_rfc_5032_3_older_and_younger_go_by_the_internal_date(client: RawClient) -> None:
    at = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(time.time() - 1000))
    assert client.append("INBOX", mail("fresh"), f'"{at}" ').startswith(b"OK")
    client.ok("NOOP")
    assert one(client, "SEARCH YOUNGER 2000") == b"* SEARCH 6"
    assert one(client, "SEARCH YOUNGER 900") == b"* SEARCH"
    assert one(client, "SEARCH OLDER 2000 FLAGGED") == b"* SEARCH 2 5"


def test_rfc_9394_3_1_pages_are_counted_from_either_end(client: RawClient) -> None:
    assert one(client, "UID SEARCH RETURN (PARTIAL 1:2) ALL") == b'* ESEARCH (TAG "T") UID PARTIAL (1:2 1:2)'
    assert one(client, "UID SEARCH RETURN (PARTIAL -1:-2) ALL") == b'* ESEARCH (TAG "T") UID PARTIAL (-1:-2 4:5)'
    assert one(client, "SEARCH RETURN (PARTIAL 4:100 COUNT) ALL") == b'* ESEARCH (TAG "T") COUNT 5 PARTIAL (4:100 4:5)'
    assert one(client, "SEARCH RETURN (PARTIAL 6:10) ALL") == b'* ESEARCH (TAG "T") PARTIAL (6:10 NIL)'
    assert one(client, "SEARCH RETURN (PARTIAL 2:1) FLAGGED") == b'* ESEARCH (TAG "T") PARTIAL (2:1 2,5)'


def test_rfc_9394_3_2_a_page_of_messages_is_fetched(client: RawClient) -> None:
    def fetched(text: str) -> list[int]:
        return [int(line.split()[1]) for line in client.ok(text) if b" FETCH " in line]

    assert fetched("UID FETCH 1:* (FLAGS) (PARTIAL -1:-2)") == [4, 5]
    assert fetched("FETCH 2:4 (UID) (PARTIAL 1:2)") == [2, 3]
    assert fetched("UID FETCH 1:* (UID) (PARTIAL 6:9)") == []
    assert fetched("UID FETCH 1:* (UID) (CHANGEDSINCE 1 PARTIAL 1:100)") == [1, 2, 3, 4, 5]
    highest = max(int(line.split()[-1].strip(b"()")) for line in client.ok("FETCH 1,3 (MODSEQ)"))
    assert fetched(f"UID FETCH 1:* (UID) (PARTIAL -1:-1 CHANGEDSINCE {highest})") == [5]


def test_rfc_8474_5_4_messages_are_found_by_their_ids(client: RawClient) -> None:
    (line,) = client.ok("FETCH 3 (EMAILID)")
    email_id = line.split()[-1].strip(b"()").decode()
    assert one(client, f"SEARCH EMAILID {email_id}") == b"* SEARCH 3"
    assert one(client, "SEARCH EMAILID Mabc") == b"* SEARCH"
    client.append("INBOX", mail("root", more="Message-ID: <root@x>\r\n"))
    client.append("INBOX", mail("leaf", more="References: <root@x>\r\n"))
    thread_id = client.ok("FETCH 6 (THREADID)")[-1].split()[-1].strip(b"()").decode()
    assert one(client, f"SEARCH THREADID {thread_id}") == b"* SEARCH 6 7"


def test_rfc_8514_4_3_messages_are_found_by_when_they_were_saved(client: RawClient) -> None:
    client.append("INBOX", mail("old"), '"01-Jan-2001 00:00:00 +0000" ')
    client.ok("NOOP")
    assert one(client, "SEARCH SAVEDSINCE 2-Jan-2001 6") == b"* SEARCH 6"
    assert one(client, "SEARCH SAVEDBEFORE 2-Jan-2001") == b"* SEARCH"
    assert one(client, "SEARCH BEFORE 2-Jan-2001 SAVEDATESUPPORTED") == b"* SEARCH 6"
    today = time.strftime("%d-%b-%Y", time.gmtime()).lstrip("0")
    assert one(client, f"SEARCH OR SAVEDON {today} NOT SAVEDON {today} UID 6") == b"* SEARCH 6"


def test_rfc_9051_6_4_4_after_enable_a_search_is_answered_by_esearch(client: RawClient) -> None:
    client.ok("ENABLE IMAP4rev2")
    assert one(client, "SEARCH FLAGGED") == b'* ESEARCH (TAG "T") ALL 2,5'
    assert one(client, "UID SEARCH DRAFT") == b'* ESEARCH (TAG "T") UID'


def test_rfc_9586_3_without_numbers_none_is_searched_by(client: RawClient) -> None:
    client.ok("ENABLE UIDONLY")
    assert client.command("UID SEARCH 1:2")[-1].startswith(b"BAD [UIDREQUIRED]")
    assert client.command("SEARCH ALL")[-1].startswith(b"BAD [UIDREQUIRED]")
    assert client.command("UID SORT (SIZE) UTF-8 NOT 1")[-1].startswith(b"BAD [UIDREQUIRED]")
    assert one(client, "UID SEARCH FLAGGED UID 1:4") == b"* SEARCH 2"


def test_rfc_7162_3_1_5_a_search_by_modseq_tells_the_highest(client: RawClient) -> None:
    client.ok("SELECT INBOX")
    *_, last = client.ok("SEARCH MODSEQ 1 FLAGGED")
    assert last.startswith(b"* SEARCH 2 5 (MODSEQ ")
    highest = int(last.split()[-1].rstrip(b")"))
    assert one(client, f"SEARCH RETURN (COUNT) MODSEQ {highest}").endswith(b"COUNT 2 MODSEQ %d" % highest)
    assert one(client, f"SEARCH MODSEQ {highest + 1}") == b"* SEARCH"


def test_rfc_7377_2_each_mailbox_with_matches_has_a_response(node: Node, user: User, login: Login) -> None:
    client = login()
    for name in ("folder1", "folder2", "folder2/salmon", "folder2/salmon/deep", "folder3"):
        client.ok(f"CREATE {name}")
        assert client.append(name, mail("chad")).startswith(b"OK")
    client.append("folder2/salmon", mail("chad"))
    validity = {}
    for name in ("folder1", "folder2", "folder2/salmon", "folder2/salmon/deep"):
        validity[name] = client.ok(f"STATUS {name} (UIDVALIDITY)")[0].split()[-1].rstrip(b")").decode()

    def answers(text: str) -> list[str]:
        lines = client.ok(text)
        return [line.decode().replace(f'TAG "t{client.tags}" ', "") for line in lines]

    def answer(name: str, result: str) -> str:
        return f'* ESEARCH (MAILBOX "{name}" UIDVALIDITY {validity[name]}) UID {result}'

    assert answers('ESEARCH IN (mailboxes "folder1" subtree "folder2") SUBJECT chad') == [
        answer("folder1", "ALL 1"),
        answer("folder2", "ALL 1"),
        answer("folder2/salmon", "ALL 1:2"),
        answer("folder2/salmon/deep", "ALL 1"),
    ]
    assert answers('ESEARCH IN (subtree-one "folder2") RETURN (COUNT) SUBJECT chad') == [
        answer("folder2", "COUNT 1"),
        answer("folder2/salmon", "COUNT 2"),
    ]
    assert len(answers("ESEARCH IN (personal) SUBJECT chad")) == 5
    assert answers("ESEARCH IN (inboxes mailboxes nowhere) ALL") == []
    assert client.command("ESEARCH ALL")[-1].startswith(b"BAD")
    client.ok("SUBSCRIBE folder1")
    assert answer("folder1", "MAX 1") in answers("ESEARCH IN (subscribed) RETURN (MAX) ALL")
    client.ok("SELECT folder2")
    assert answers("ESEARCH IN (selected) RETURN (ALL SAVE) 1:*") == [answer("folder2", "ALL 1")]
    assert len(client.ok("FETCH $ (UID)")) == 1


def updates(client: RawClient, text: str) -> list[bytes]:
    return [line for line in client.ok(text) if b"ESEARCH" in line]


def test_rfc_5267_4_3_a_search_is_kept_up_to_date(client: RawClient, node: Node, user: User) -> None:
    tag = client.tags + 1
    assert one(client, "UID SEARCH RETURN (COUNT UPDATE) FLAGGED") == b'* ESEARCH (TAG "T") UID COUNT 2'

    def update(what: str) -> bytes:
        return f'* ESEARCH (TAG "t{tag}") UID {what}'.encode()

    assert updates(client, "STORE 3:4 +FLAGS (\\Flagged)") == [update("ADDTO (0 3:4)")]
    assert updates(client, "STORE 2,4 -FLAGS (\\Flagged)") == [update("REMOVEFROM (0 2,4)")]
    client.ok("STORE 3 +FLAGS.SILENT (\\Deleted)")
    assert client.ok("EXPUNGE") == [update("REMOVEFROM (0 3)"), b"* 3 EXPUNGE"]
    node.deliver(user, mail("not flagged"))
    assert updates(client, "NOOP") == []
    client.ok(f'CANCELUPDATE "t{tag}"')
    assert updates(client, "STORE 1 +FLAGS (\\Flagged)") == []


def test_rfc_5267_4_3_updates_of_numbers_come_in_front_of_the_expunge_and_behind_the_exists(
    client: RawClient, node: Node, user: User, login: Login
) -> None:
    client.ok("SEARCH RETURN (ALL UPDATE CONTEXT) SUBJECT number")
    tag = b"t%d" % client.tags
    other = login()
    other.ok("SELECT INBOX")
    other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    node.deliver(user, mail("number 6"), mail("another"))
    told = [line for line in client.ok("NOOP") if b"FETCH" not in line and b"RECENT" not in line]
    assert told == [
        b'* ESEARCH (TAG "%b") REMOVEFROM (0 2)' % tag,
        b"* 2 EXPUNGE",
        b"* 6 EXISTS",
        b'* ESEARCH (TAG "%b") ADDTO (0 5)' % tag,
    ]
    client.ok("SELECT INBOX")
    node.deliver(user, mail("number 7"))
    assert updates(client, "NOOP") == [], "it belonged to the selected mailbox"


def test_rfc_5267_4_3_a_sort_is_kept_up_to_date_in_its_order(client: RawClient, node: Node, user: User) -> None:
    client.ok("UID SORT RETURN (COUNT UPDATE) (REVERSE SUBJECT) UTF-8 UNDELETED")
    tag = b"t%d" % client.tags
    node.deliver(user, mail("number 35"), mail("aaa"))
    assert updates(client, "NOOP") == [b'* ESEARCH (TAG "%b") UID ADDTO (3 6 7 7)' % tag]
    assert updates(client, "STORE 4,1 +FLAGS (\\Deleted)") == [b'* ESEARCH (TAG "%b") UID REMOVEFROM (6 1 2 4)' % tag]


@pytest.mark.parametrize("program", ["YOUNGER 100", "1:3", "OR SEEN NOT 2"])
def test_rfc_5267_4_3_1_what_is_not_kept_up_to_date_is_said(client: RawClient, program: str) -> None:
    refusal, answer = sorted(client.ok(f"SEARCH RETURN (COUNT UPDATE) {program}"), reverse=True)
    assert answer.startswith(b"* ESEARCH")
    assert refusal.startswith(b'* NO [NOUPDATE "t%d"]' % client.tags)


def test_a_session_has_so_many_updates_and_no_more(client: RawClient) -> None:
    for _ in range(10):
        assert len(client.ok("SEARCH RETURN (UPDATE) SEEN")) == 1
    assert b"NOUPDATE" in client.ok("SEARCH RETURN (UPDATE) SEEN")[1]


def test_a_long_search_gives_way_to_others(node: Node, login: Login) -> None:
    slow = login()
    for _ in range(8):
        slow.append("INBOX", mail("large", text="x" * 400_000))
    slow.ok("SELECT INBOX")
    other = login()
    slow.send(b"".join(b"s%d SEARCH TEXT absent\r\n" % n for n in range(40)))
    other.ok("NOOP")
    slow.socket.setblocking(False)
    arrived = b""
    with contextlib.suppress(BlockingIOError):
        arrived = slow.socket.recv(1_000_000)
    slow.socket.setblocking(True)
    assert b"s39 OK" not in arrived, "the other had to wait for all of it"
    assert slow.until(b"s39")[-1].startswith(b"OK")


def test_more_terms_than_are_served_are_refused_and_the_session_goes_on(client: RawClient) -> None:
    assert client.command("SEARCH " + "TEXT a " * 5000 + "ALL")[-1].startswith(b"NO [LIMIT]")
    assert one(client, "SEARCH " + "NOT TEXT absent " * 450 + "ALL") == b"* SEARCH 1 2 3 4 5"
