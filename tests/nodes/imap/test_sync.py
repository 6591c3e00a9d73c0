"""CONDSTORE and QRESYNC over real connections: a client that comes back is told what it missed, and no more."""

import re
from collections.abc import Callable

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

Login = Callable[[], RawClient]


def _code(lines: list[bytes], name: bytes) -> int:
    found = [match for line in lines if (match := re.search(rb"\[%b (\d+)" % name, line))]
    assert found, lines
    return int(found[-1][1])


def _modseqs(lines: list[bytes]) -> dict[int, int]:
    """By UID, of FETCH responses."""
    found = [re.search(rb"UID (\d+).*MODSEQ \((\d+)\)", line) for line in lines if b" FETCH (" in line]
    return {int(match[1]): int(match[2]) for match in found if match}


def _fill(node: Node, user: User, count: int) -> None:
    node.deliver(user, *(b"Subject: %d\r\n\r\nx\r\n" % number for number in range(count)))


def _resynchronising(login: Login) -> RawClient:
    client = login()
    assert client.ok("ENABLE QRESYNC") == [b"* ENABLED QRESYNC"]
    return client


def test_enable_names_what_it_knows_and_ignores_the_rest(login: Login) -> None:
    assert login().ok("ENABLE condstore X-GOOD-IDEA") == [b"* ENABLED CONDSTORE"]


def test_enable_of_nothing_is_bad(login: Login) -> None:
    assert login().command("ENABLE")[-1].startswith(b"BAD")


def test_select_tells_the_highest_modseq_and_status_the_same(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 2)
    client = login()
    highest = _code(client.ok("SELECT INBOX (CONDSTORE)"), b"HIGHESTMODSEQ")
    assert client.ok("STATUS INBOX (HIGHESTMODSEQ)") == [b'* STATUS "INBOX" (HIGHESTMODSEQ %d)' % highest]
    fetched = _modseqs(client.ok("UID FETCH 1:* (MODSEQ)"))
    assert max(fetched.values()) == highest


def test_asking_for_a_modseq_switches_condstore_on_and_tells_where_it_begins(
    node: Node, user: User, login: Login
) -> None:
    _fill(node, user, 1)
    client, other = login(), login()
    highest = _code(client.ok("SELECT INBOX"), b"HIGHESTMODSEQ")
    other.ok("SELECT INBOX")
    assert b"* OK [HIGHESTMODSEQ %d] from here on" % highest in client.ok("FETCH 1 MODSEQ")
    other.ok("STORE 1 +FLAGS (\\Flagged)")
    told = client.ok("NOOP")
    assert len(told) == 1
    assert re.fullmatch(rb"\* 1 FETCH \(FLAGS \(\\Flagged \\Recent\) MODSEQ \(\d+\)\)", told[0])


def test_fetch_changedsince_tells_what_changed_and_nothing_else(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 3)
    client = login()
    client.ok("SELECT INBOX (CONDSTORE)")
    since = max(_modseqs(client.ok("UID FETCH 1:* (MODSEQ)")).values())
    client.ok("UID STORE 2 +FLAGS.SILENT (\\Seen)")
    changed = client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since})")
    assert list(_modseqs(changed)) == [2]
    assert client.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {_modseqs(changed)[2]})") == []


def test_a_silent_store_tells_the_new_modseq_alone(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 1)
    client = login()
    highest = _code(client.ok("SELECT INBOX (CONDSTORE)"), b"HIGHESTMODSEQ")
    (told,) = client.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)")
    assert told == b"* 1 FETCH (UID 1 MODSEQ (%d))" % (highest + 1)


def test_store_unchangedsince_leaves_what_somebody_else_changed(node: Node, user: User, login: Login) -> None:
    """RFC 7162 3.1.3, example 3."""
    _fill(node, user, 3)
    client, other = login(), login()
    since = _code(client.ok("SELECT INBOX (CONDSTORE)"), b"HIGHESTMODSEQ")
    other.ok("SELECT INBOX")
    other.ok("UID STORE 2 +FLAGS (Work)")
    *told, last = client.command(f"STORE 1:3 (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\\Deleted)")
    assert last.startswith(b"OK [MODIFIED 2] ")
    assert [line for line in told if b" FETCH (MODSEQ" in line] == [
        b"* 1 FETCH (MODSEQ (%d))" % (since + 2),
        b"* 3 FETCH (MODSEQ (%d))" % (since + 2),
    ]
    assert any(b"Work" in line and line.startswith(b"* 2 FETCH") for line in told)
    assert node.held(user)[1][2] == ("Work",)


def test_store_unchangedsince_0_changes_nothing(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 1)
    client = login()
    client.ok("SELECT INBOX")
    last = client.command("UID STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)")[-1]
    assert last.startswith(b"OK [MODIFIED 1] ")


def test_qresync_without_enable_is_bad(login: Login) -> None:
    client = login()
    assert client.command("SELECT INBOX (QRESYNC (1 2))")[-1].startswith(b"BAD")
    client.ok("SELECT INBOX")
    assert client.command("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")[-1].startswith(b"BAD")


def test_a_client_that_comes_back_is_told_what_it_missed(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 6)
    client, other = _resynchronising(login), login()
    opened = client.ok("SELECT INBOX")
    validity, since = _code(opened, b"UIDVALIDITY"), _code(opened, b"HIGHESTMODSEQ")
    client.ok("UNSELECT")
    other.ok("SELECT INBOX")
    other.ok("UID STORE 2,3,5 +FLAGS (\\Deleted)")
    other.ok("EXPUNGE")
    other.ok("UID STORE 4 +FLAGS (\\Flagged)")
    _fill(node, user, 1)
    told = client.ok(f"SELECT INBOX (QRESYNC ({validity} {since}))")
    assert [line for line in told if b"VANISHED" in line] == [b"* VANISHED (EARLIER) 2:3,5"]
    assert sorted(_modseqs(told)) == [4, 7]
    last = max(told.index(line) for line in told if b"VANISHED" in line)
    assert last < min(told.index(line) for line in told if b" FETCH " in line)
    client.ok("UNSELECT")
    again = client.ok(f"SELECT INBOX (QRESYNC ({validity} {_code(told, b'HIGHESTMODSEQ')}))")
    assert not [line for line in again if b"VANISHED" in line or b" FETCH " in line]


def test_known_uids_limit_what_is_told(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 6)
    client, other = _resynchronising(login), login()
    opened = client.ok("EXAMINE INBOX")
    validity, since = _code(opened, b"UIDVALIDITY"), _code(opened, b"HIGHESTMODSEQ")
    other.ok("SELECT INBOX")
    other.ok("UID STORE 1,2,5 +FLAGS (\\Deleted)")
    other.ok("EXPUNGE")
    other.ok("UID STORE 3,6 +FLAGS (\\Flagged)")
    told = client.ok(f"EXAMINE INBOX (QRESYNC ({validity} {since} 2:4 (1,3 1,3)))")
    assert told[0].startswith(b"* OK [CLOSED]")
    assert [line for line in told if b"VANISHED" in line] == [b"* VANISHED (EARLIER) 2"]
    assert sorted(_modseqs(told)) == [3]


def test_another_uidvalidity_is_as_if_nothing_was_known(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 2)
    client = _resynchronising(login)
    told = client.ok("SELECT INBOX (QRESYNC (1 1))")
    assert not [line for line in told if b"VANISHED" in line or b" FETCH " in line]


def test_expunges_are_told_by_uid_with_the_modseq_that_they_had(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 5)
    client = _resynchronising(login)
    since = _code(client.ok("SELECT INBOX"), b"HIGHESTMODSEQ")
    client.ok("UID STORE 1:2,4 +FLAGS.SILENT (\\Deleted)")
    told = client.command("EXPUNGE")
    assert told == [b"* VANISHED 1:2,4", b"OK [HIGHESTMODSEQ %d] EXPUNGE completed" % (since + 2)]
    assert client.ok(f"UID FETCH 1:* (UID) (CHANGEDSINCE {since} VANISHED)") == [b"* VANISHED (EARLIER) 1:2,4"]
    assert client.command("EXPUNGE") == [b"OK EXPUNGE completed"]


def test_move_and_close_tell_the_modseq(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 3)
    client = _resynchronising(login)
    since = _code(client.ok("SELECT INBOX"), b"HIGHESTMODSEQ")
    moved = client.command("UID MOVE 2 Archive")
    assert moved[0].startswith(b"* OK [COPYUID ")
    assert moved[1:] == [b"* VANISHED 2", b"OK [HIGHESTMODSEQ %d] MOVE completed" % (since + 1)]
    client.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert client.command("CLOSE") == [b"OK [HIGHESTMODSEQ %d] CLOSE completed" % (since + 3)]


def test_close_does_not_let_a_client_skip_what_it_was_not_told(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 3)
    client, other = _resynchronising(login), login()
    client.ok("SELECT INBOX")
    told = client.ok("UID STORE 1 +FLAGS (\\Deleted)")
    known = _modseqs(told)[1]
    other.ok("SELECT INBOX")
    other.ok("UID STORE 2 +FLAGS (\\Flagged)")
    assert _code(client.command("CLOSE"), b"HIGHESTMODSEQ") == known


def test_an_expunge_that_waits_holds_back_the_modseq(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 3)
    client, other = _resynchronising(login), login()
    since = _code(client.ok("SELECT INBOX"), b"HIGHESTMODSEQ")
    other.ok("SELECT INBOX")
    other.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    *told, last = client.command("STORE 3 +FLAGS (\\Seen)")
    assert _modseqs(told)[3] == since + 3
    assert last == b"OK [HIGHESTMODSEQ %d] STORE completed" % since
    assert client.command("NOOP") == [b"* VANISHED 1", b"OK [HIGHESTMODSEQ %d] NOOP completed" % (since + 3)]
    assert client.command("NOOP") == [b"OK NOOP completed"]


def test_an_idling_client_is_told_of_vanished_messages(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 2)
    client, other = _resynchronising(login), login()
    client.ok("SELECT INBOX")
    other.ok("SELECT INBOX")
    client.send(b"i IDLE\r\n")
    assert client.response().startswith(b"+")
    other.ok("UID STORE 1 +FLAGS (\\Deleted)")
    other.ok("EXPUNGE")
    assert b"UID 1 FLAGS (\\Deleted" in client.response()
    assert client.response() == b"* VANISHED 1"
    client.send(b"DONE\r\n")
    client.until(b"i")


def test_a_session_as_of_a_moment_tells_what_had_gone_then(node: Node, user: User, connect: Login) -> None:
    _fill(node, user, 3)
    client = connect()
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    client.ok("SELECT INBOX")
    client.ok("UID STORE 1 +FLAGS (\\Deleted)")
    client.ok("EXPUNGE")
    position = node.log.status().applied
    client.ok("UID STORE 2 +FLAGS (\\Deleted)")
    client.ok("EXPUNGE")
    past = connect()
    past.ok(f'LOGIN "{user.login}@@#{position}" "{PASSWORD}"')
    past.ok("ENABLE QRESYNC")
    opened = past.ok("EXAMINE INBOX")
    validity = _code(opened, b"UIDVALIDITY")
    told = past.ok(f"EXAMINE INBOX (QRESYNC ({validity} 8))")
    assert [line for line in told if b"VANISHED" in line] == [b"* VANISHED (EARLIER) 1"]
    assert past.command("STORE 1 (UNCHANGEDSINCE 99) +FLAGS (\\Seen)")[-1].startswith(b"NO [NOPERM]")
