"""METADATA (RFC 5464), LIST-METADATA (RFC 9590) and QUOTA (RFC 9208) over real connections."""

from collections.abc import Callable

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, PASSWORD, Node, User

Login = Callable[[], RawClient]

MAIL = b"Subject: x\r\n\r\ntext\r\n"


# -- METADATA


def test_rfc_5464_4_3_an_entry_is_set_read_changed_and_removed(login: Login) -> None:
    client = login()
    client.ok(b"SETMETADATA INBOX (/private/comment {33+}\r\nMy new comment across two lines.\n)")
    assert client.ok("GETMETADATA INBOX /private/comment") == [
        b'* METADATA "INBOX" ("/private/comment" {33}\r\nMy new comment across two lines.\n)'
    ]
    client.ok('SETMETADATA INBOX (/private/COMMENT "shorter" /shared/comment "for all")')
    assert client.ok('GETMETADATA "INBOX" (/shared/comment /private/comment)') == [
        b'* METADATA "INBOX" ("/private/comment" "shorter" "/shared/comment" "for all")'
    ]
    client.ok("SETMETADATA INBOX (/private/comment NIL)")
    assert client.ok("GETMETADATA INBOX /private/comment") == [b'* METADATA "INBOX" ("/private/comment" NIL)']


def test_rfc_5464_4_2_1_longer_values_than_maxsize_are_left_out_and_told(login: Login) -> None:
    client = login()
    client.ok('SETMETADATA INBOX (/private/comment "short" /shared/comment "%s")' % ("x" * 2199))
    assert client.command('GETMETADATA "INBOX" (MAXSIZE 1024) (/shared/comment /private/comment)') == [
        b'* METADATA "INBOX" ("/private/comment" "short")',
        b"OK [METADATA LONGENTRIES 2199] GETMETADATA completed",
    ]


def test_rfc_5464_4_2_2_depth_finds_what_stands_below(login: Login) -> None:
    client = login()
    client.ok(
        'SETMETADATA INBOX (/private/filters/values/small "SMALLER 5000" /private/filters/values/boss "FROM boss"'
        ' /private/filters/values/boss/more "deeper" /private/filtersnot "other")'
    )
    one = client.ok('GETMETADATA (DEPTH 1) "INBOX" (/private/filters/values)')
    below = b'"/private/filters/values/boss" "FROM boss" "/private/filters/values/small" "SMALLER 5000"'
    assert one == [b'* METADATA "INBOX" (' + below + b")"]
    (everything,) = client.ok('GETMETADATA (DEPTH infinity) "INBOX" (/private)')
    assert everything.count(b"/private/") == 4
    assert client.ok('GETMETADATA (DEPTH 1) "INBOX" (/private/absent)') == []


def test_the_server_says_whom_to_write_to_and_keeps_private_entries(login: Login, user: User) -> None:
    client = login()
    assert client.ok('GETMETADATA "" /shared/admin') == [
        b'* METADATA "" ("/shared/admin" "mailto:postmaster@example.test")'
    ]
    client.ok('SETMETADATA "" (/private/vendor/example/key "mine")')
    assert client.ok('GETMETADATA "" /private/vendor/example/key')[0].endswith(b'"mine")')
    assert client.command('SETMETADATA "" (/shared/comment "x")')[-1].startswith(b"NO [NOPERM]")


def test_what_is_no_entry_too_large_or_too_much_is_refused(login: Login) -> None:
    client = login()
    for entry in ("comment", "/public/comment", "/private/", "/private/a*", "/private//a", "/shared"):
        assert client.command(f'SETMETADATA INBOX ("{entry}" "x")')[-1].startswith(b"NO [CANNOT]"), entry
    assert client.command("SETMETADATA absent (/private/comment NIL)")[-1].startswith(b"NO [NONEXISTENT]")
    large = client.command(b"SETMETADATA INBOX (/private/comment {16385+}\r\n" + b"x" * 16385 + b")")
    assert large[-1].startswith(b"NO [METADATA MAXSIZE 16384]")
    value = b"x" * 16384
    for number in range(64):
        client.ok(b"SETMETADATA INBOX (/private/%d {16384+}\r\n%b)" % (number, value))
    full = client.command(b'SETMETADATA Sent (/private/comment "x")')[-1]
    assert full.startswith(b"NO [METADATA TOOMANY]")
    client.ok("SETMETADATA INBOX (/private/0 NIL)")
    client.ok('SETMETADATA Sent (/private/comment "x")')


def test_annotations_go_with_their_mailbox_and_stay_when_it_is_renamed(login: Login) -> None:
    client = login()
    client.ok("CREATE old")
    client.ok('SETMETADATA old (/private/comment "kept")')
    client.ok("RENAME old new")
    assert client.ok("GETMETADATA new /private/comment")[0].endswith(b'"kept")')
    client.ok("DELETE new")
    client.ok("CREATE new")
    assert client.ok("GETMETADATA new /private/comment")[0].endswith(b"NIL)")


def test_a_value_with_nul_goes_both_ways_as_literal8(login: Login) -> None:
    client = login()
    client.ok(b"SETMETADATA INBOX (/private/comment ~{3+}\r\na\x00b)")
    assert client.ok("GETMETADATA INBOX /private/comment")[0].endswith(b" ~{3}\r\na\x00b)")


def test_rfc_9590_4_list_returns_what_was_asked_for_beside_each_mailbox(login: Login) -> None:
    client = login()
    client.ok('SETMETADATA INBOX (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")')
    lines = client.ok('LIST "" (INBOX Sent) RETURN (METADATA ("/shared/vendor/cmu/cyrus-imapd/color") SUBSCRIBED)')
    assert [line for line in lines if line.startswith(b"* METADATA")] == [
        b'* METADATA "INBOX" ("/shared/vendor/cmu/cyrus-imapd/color" "#b71c1c")',
        b'* METADATA "Sent" ("/shared/vendor/cmu/cyrus-imapd/color" NIL)',
    ]
    assert lines[0].startswith(b"* LIST ")


def test_a_look_back_shows_annotations_as_they_were_and_takes_none(
    node: Node, user: User, connect: Login, login: Login
) -> None:
    client = login()
    client.ok('SETMETADATA INBOX (/private/comment "then")')
    then = node.log.status().applied
    client.ok('SETMETADATA INBOX (/private/comment "now")')
    past = connect()
    past.ok(f'LOGIN "{user.login}@@#{then}" "{PASSWORD}"')
    assert past.ok("GETMETADATA INBOX /private/comment")[0].endswith(b'"then")')
    assert past.command('SETMETADATA INBOX (/private/comment "x")')[-1].startswith(b"NO [NOPERM]")
    assert past.command(b"APPEND INBOX CATENATE (TEXT {1+}\r\nx)")[-1].startswith(b"NO [NOPERM]")
    assert past.ok("GETQUOTAROOT INBOX")[-1] == b'* QUOTA "" ()'
    assert past.command('SETQUOTA "" (STORAGE 512)')[-1].startswith(b"NO [NOPERM]")


# -- QUOTA


@pytest.fixture
def limited(node: Node, connect: Login) -> RawClient:
    user = node.add_user()
    node.call(node.directory.set_quota(user.login, 10 * 1024, ADMIN, 2))
    client = connect()
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    return client


def test_rfc_9208_4_2_the_quota_of_an_account_in_octets_and_messages(limited: RawClient) -> None:
    assert limited.ok("GETQUOTAROOT INBOX") == [b'* QUOTAROOT "INBOX" ""', b'* QUOTA "" (STORAGE 0 10 MESSAGE 0 2)']
    limited.append("INBOX", MAIL)
    assert limited.ok('GETQUOTA ""') == [b'* QUOTA "" (STORAGE 1 10 MESSAGE 1 2)']
    assert limited.command("GETQUOTA elsewhere")[-1].startswith(b"NO [NONEXISTENT]")
    assert limited.command("GETQUOTAROOT absent")[-1].startswith(b"NO [NONEXISTENT]")


def test_rfc_9208_5_2_as_many_messages_as_allowed_and_no_more_whichever_way_they_come(limited: RawClient) -> None:
    limited.append("INBOX", MAIL)
    limited.append("INBOX", MAIL)
    assert limited.append("INBOX", MAIL).startswith(b"NO [OVERQUOTA]")
    limited.ok("SELECT INBOX")
    assert limited.command("COPY 1 Sent")[-1].startswith(b"NO [OVERQUOTA]")
    limited.ok("MOVE 1 Sent")
    assert limited.command(b"REPLACE 1 INBOX {%d+}\r\n%b" % (len(MAIL), MAIL))[-1].startswith(b"OK ")


def test_without_limits_a_root_has_no_resources(login: Login) -> None:
    assert login().ok('GETQUOTA ""') == [b'* QUOTA "" ()']


def test_rfc_9208_4_1_3_quotas_are_not_set_by_users(login: Login) -> None:
    client = login()
    assert client.command('SETQUOTA "" (STORAGE 512)')[-1].startswith(b"NO [NOPERM]")
    assert b"QUOTASET" not in client.ok("CAPABILITY")[0].split()


def test_rfc_9208_4_1_4_status_counts_what_is_marked_deleted(login: Login) -> None:
    client = login()
    client.append("INBOX", MAIL, "(\\Deleted) ")
    client.append("INBOX", MAIL)
    assert client.ok("STATUS INBOX (DELETED DELETED-STORAGE)") == [
        b'* STATUS "INBOX" (DELETED 1 DELETED-STORAGE %d)' % len(MAIL)
    ]
