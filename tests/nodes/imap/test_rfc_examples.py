r"""The examples of the smaller extensions' RFCs, by section: what their servers answer, ours does.

Names, UIDs and sizes are those of the test. What an RFC leaves to the server is not compared: the order of names, the
words behind OK, attributes that nobody asked for (\HasChildren and \HasNoChildren are always told).
"""

import base64
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

Login = Callable[[], RawClient]

_LIST = re.compile(rb'\* LIST \(([^)]*)\) "/" "([^"]*)"(?: (.*))?')
_CHILDREN = {"\\HasChildren", "\\HasNoChildren"}
CHILD_INFO = '("CHILDINFO" ("SUBSCRIBED"))'


class Listed(NamedTuple):
    attributes: frozenset[str]
    more: str  # extended data items


def listed(client: RawClient, command: str) -> dict[str, Listed]:
    """The LIST responses by mailbox, with the attributes for children where they were asked for."""
    found: dict[str, Listed] = {}
    for line in client.ok(command):
        match = _LIST.fullmatch(line)
        assert match, line
        attributes = frozenset(match[1].decode().split())
        kept = attributes if "CHILDREN" in command else attributes - _CHILDREN
        assert match[2].decode() not in found
        found[match[2].decode()] = Listed(kept, (match[3] or b"").decode())
    return found


def entry(*attributes: str, more: str = "") -> Listed:
    return Listed(frozenset(attributes), more)


def beside(client: RawClient, command: str) -> dict[str, list[bytes]]:
    """What stands behind each LIST response, by mailbox."""
    found: dict[str, list[bytes]] = {}
    name = ""
    for line in client.ok(command):
        if match := _LIST.fullmatch(line):
            name = match[2].decode()
            found[name] = []
        else:
            found[name].append(line)
    return found


def mail(number: int, padding: int = 0) -> bytes:
    return b"Subject: %d\r\n\r\ntext\r\n%b" % (number, b"x" * padding)


def fill(node: Node, user: User, count: int, folder: str = "INBOX") -> None:
    node.deliver(user, *(mail(number) for number in range(count)), folder=folder)


def left(lines: list[bytes], there: int) -> list[int]:
    """The numbers of before that are there still after these EXPUNGE responses, which come in any order."""
    kept = list(range(1, there + 1))
    for line in lines:
        match = re.fullmatch(rb"\* (\d+) EXPUNGE", line)
        assert match, line
        del kept[int(match[1]) - 1]
    return kept


def number_in(lines: list[bytes], name: bytes) -> int:
    """The number behind a response code or an item."""
    found = [match for line in lines if (match := re.search(rb"\b%b \(?(\d+)" % name, line))]
    assert found, lines
    return int(found[-1][1])


@pytest.fixture
def bare(login: Login) -> RawClient:
    """Nothing but INBOX is there, and nothing is subscribed."""
    client = login()
    for name in listed(client, 'LIST "" "*"'):
        if name != "INBOX":
            client.ok(f'DELETE "{name}"')
    for name in listed(client, 'LIST (SUBSCRIBED) "" "*"'):
        client.ok(f'UNSUBSCRIBE "{name}"')
    return client


# -- RFC 5258, LIST-EXTENDED, and CHILDREN of RFC 3348


@pytest.fixture
def groceries(bare: RawClient) -> RawClient:
    """The mailboxes of examples 1 to 5."""
    for name in ("Fruit", "Fruit/Apple", "Fruit/Banana", "Tofu", "Vegetable", "Vegetable/Broccoli", "Vegetable/Corn"):
        bare.ok(f"CREATE {name}")
    for name in ("INBOX", "Fruit/Banana", "Fruit/Peach", "Vegetable", "Vegetable/Broccoli"):
        bare.ok(f"SUBSCRIBE {name}")
    return bare


def test_rfc_5258_5_1_the_whole_tree(groceries: RawClient) -> None:
    names = {"INBOX", "Fruit", "Fruit/Apple", "Fruit/Banana", "Tofu"}
    names |= {"Vegetable", "Vegetable/Broccoli", "Vegetable/Corn"}
    assert listed(groceries, 'LIST "" "*"') == dict.fromkeys(names, entry())


def test_rfc_5258_5_2_what_is_subscribed_whether_it_is_there_or_not(groceries: RawClient) -> None:
    assert listed(groceries, 'LIST (SUBSCRIBED) "" "*"') == {
        "INBOX": entry("\\Subscribed"),
        "Fruit/Banana": entry("\\Subscribed"),
        "Fruit/Peach": entry("\\Subscribed", "\\NonExistent"),
        "Vegetable": entry("\\Subscribed"),
        "Vegetable/Broccoli": entry("\\Subscribed"),
    }


def test_rfc_5258_5_3_the_return_of_children(groceries: RawClient) -> None:
    top = {
        "INBOX": entry("\\HasNoChildren"),
        "Fruit": entry("\\HasChildren"),
        "Tofu": entry("\\HasNoChildren"),
        "Vegetable": entry("\\HasChildren"),
    }
    assert listed(groceries, 'LIST () "" "%" RETURN (CHILDREN)') == top


def test_rfc_5258_5_4_5_and_6_remote_mailboxes_are_none_more(groceries: RawClient) -> None:
    for remote, without in (
        ('LIST (REMOTE) "" "%" RETURN (CHILDREN)', 'LIST "" "%" RETURN (CHILDREN)'),
        ('LIST (REMOTE SUBSCRIBED) "" "*"', 'LIST (SUBSCRIBED) "" "*"'),
        ('LIST (REMOTE) "" "*" RETURN (SUBSCRIBED)', 'LIST "" "*" RETURN (SUBSCRIBED)'),
    ):
        assert listed(groceries, remote) == listed(groceries, without)
    told = listed(groceries, 'LIST "" "*" RETURN (SUBSCRIBED)')
    assert told["Vegetable"] == entry("\\Subscribed")
    assert told["Tofu"] == entry()
    assert "Fruit/Peach" not in told


def test_rfc_5258_5_7_several_patterns_at_once(bare: RawClient) -> None:
    for name in ("Drafts", "Elsewhere", "Sent", "Sent/March2004", "Sent/December2003", "Sent/August2004"):
        bare.ok(f"CREATE {name}")
    names = {"INBOX", "Drafts", "Sent/March2004", "Sent/December2003", "Sent/August2004"}
    assert set(listed(bare, 'LIST "" ("INBOX" "Drafts" "Sent/%")')) == names


@pytest.fixture
def foo(bare: RawClient) -> RawClient:
    """The mailboxes of example 8."""
    for name in ("Foo", "Foo/Bar", "Foo/Baz", "Moo"):
        bare.ok(f"CREATE {name}")
    return bare


def test_rfc_5258_5_8_a_child_info_is_not_the_attribute_for_children(foo: RawClient) -> None:
    assert listed(foo, 'LIST "" "%" RETURN (CHILDREN)') == {
        "INBOX": entry("\\HasNoChildren"),
        "Foo": entry("\\HasChildren"),
        "Moo": entry("\\HasNoChildren"),
    }
    foo.ok("SUBSCRIBE Foo/Baz")
    assert listed(foo, 'LIST (SUBSCRIBED) "" "*"') == {"Foo/Baz": entry("\\Subscribed")}
    assert listed(foo, 'LIST (SUBSCRIBED) "" "%"') == {}
    assert listed(foo, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"') == {"Foo": entry(more=CHILD_INFO)}


def test_rfc_5258_5_8_a1_a_subscribed_parent_has_both(foo: RawClient) -> None:
    foo.ok("SUBSCRIBE Foo/Baz")
    foo.ok("SUBSCRIBE Foo")
    assert listed(foo, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"') == {"Foo": entry("\\Subscribed", more=CHILD_INFO)}
    assert listed(foo, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN)') == {
        "Foo": entry("\\Subscribed", "\\HasChildren", more=CHILD_INFO)
    }


def test_rfc_5258_5_8_a2_a_parent_that_is_no_mailbox(foo: RawClient) -> None:
    foo.ok("SUBSCRIBE Foo/Baz")
    foo.ok("DELETE Foo")
    assert listed(foo, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"') == {"Foo": entry("\\NonExistent", more=CHILD_INFO)}


def test_rfc_5258_5_8_b_and_c_no_child_is_subscribed(foo: RawClient) -> None:
    assert listed(foo, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"') == {}
    foo.ok("SUBSCRIBE Foo")
    foo.ok("SUBSCRIBE Moo")
    assert listed(foo, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN)') == {
        "Foo": entry("\\HasChildren", "\\Subscribed"),
        "Moo": entry("\\HasNoChildren", "\\Subscribed"),
    }


def test_rfc_5258_5_9_a_parent_is_told_of_where_a_child_is_not_told_itself(bare: RawClient) -> None:
    subscribed = ["foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22", "baz2/bar222", "eps2", "eps2/mamba", "qux2/bar2"]
    for name in ("foo2", "baz2", *subscribed):
        bare.command(f"CREATE {name}")  # some are there: those above another
    for name in subscribed:
        bare.ok(f"SUBSCRIBE {name}")
    told = dict.fromkeys(subscribed, entry("\\Subscribed")) | {"eps2": entry("\\Subscribed", more=CHILD_INFO)}
    assert listed(bare, 'LIST (RECURSIVEMATCH SUBSCRIBED) "" "*"') == told
    assert listed(bare, 'LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"') == {
        "foo2": entry(more=CHILD_INFO),  # as foo2/bar1 is not told
        "foo2/bar2": entry("\\Subscribed"),
        "baz2/bar2": entry("\\Subscribed"),
        "baz2/bar22": entry("\\Subscribed"),
        "baz2/bar222": entry("\\Subscribed"),
        "eps2": entry("\\Subscribed", more=CHILD_INFO),
        "qux2/bar2": entry("\\Subscribed"),
    }


def test_rfc_5258_3_an_empty_pattern_asks_for_the_delimiter_in_the_old_form_alone(bare: RawClient) -> None:
    assert bare.ok('LIST "" ""') == [b'* LIST (\\Noselect) "/" ""']
    for command in ('LIST () "" ""', 'LIST (SUBSCRIBED) "" ""', 'LIST "" ("")', 'LIST "" "" RETURN (CHILDREN)'):
        assert bare.ok(command) == []
    assert set(listed(bare, 'LIST "" ("" "INBOX")')) == {"INBOX"}


def test_rfc_5258_3_1_a_recursive_match_of_nothing_else_is_bad(bare: RawClient) -> None:
    assert bare.command('LIST (RECURSIVEMATCH) "" "*"')[-1].startswith(b"BAD ")
    assert bare.command('LIST (RECURSIVEMATCH REMOTE) "" "*"')[-1].startswith(b"BAD ")


def test_rfc_3348_3_children_are_told_of_without_being_asked_for(foo: RawClient) -> None:
    told = foo.ok('LIST "" "%"')
    assert b'* LIST (\\HasChildren) "/" "Foo"' in told
    assert b'* LIST (\\HasNoChildren) "/" "Moo"' in told


# -- RFC 5819, LIST-STATUS; RFC 8438, STATUS=SIZE; RFC 8440, LIST-MYRIGHTS; RFC 7889, APPENDLIMIT


@pytest.fixture
def barred(bare: RawClient, node: Node, user: User) -> RawClient:
    """INBOX of 3 messages, foo of 2, and bar, which is no mailbox."""
    for name in ("foo", "bar", "bar/below"):
        bare.ok(f"CREATE {name}")
    bare.ok("DELETE bar")
    fill(node, user, 3)
    fill(node, user, 2, "foo")
    bare.ok("SELECT foo")
    bare.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
    bare.ok("UNSELECT")
    return bare


@pytest.fixture
def half(barred: RawClient) -> RawClient:
    """INBOX is subscribed, and of foo what is below it."""
    barred.ok("CREATE foo/below")
    barred.ok("SUBSCRIBE INBOX")
    barred.ok("SUBSCRIBE foo/below")
    return barred


def test_rfc_5819_3_each_mailbox_has_its_status(barred: RawClient) -> None:
    command = 'LIST "" % RETURN (STATUS (MESSAGES UNSEEN))'
    assert beside(barred, command) == {
        "INBOX": [b'* STATUS "INBOX" (MESSAGES 3 UNSEEN 3)'],
        "foo": [b'* STATUS "foo" (MESSAGES 2 UNSEEN 1)'],
        "bar": [],
    }


def test_rfc_5819_3_what_is_listed_for_its_children_has_no_status(half: RawClient) -> None:
    command = 'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (CHILDREN STATUS (MESSAGES))'
    assert beside(half, command) == {"INBOX": [b'* STATUS "INBOX" (MESSAGES 3)'], "foo": []}
    assert b'* LIST (\\HasChildren) "/" "foo" ("CHILDINFO" ("SUBSCRIBED"))' in half.ok(command)


def test_rfc_8440_4_each_mailbox_has_its_rights(barred: RawClient) -> None:
    told = beside(barred, 'LIST "" % RETURN (MYRIGHTS)')
    assert set(told) == {"INBOX", "foo", "bar"}
    assert told["bar"] == []
    for name in ("INBOX", "foo"):
        (line,) = told[name]
        found = re.fullmatch(rb'\* MYRIGHTS "%b" ([a-z]+)' % name.encode(), line)
        assert found, line
        assert set(found[1]) >= set(b"lrswipkxtea")


def test_rfc_8440_4_what_is_listed_for_its_children_has_no_rights(half: RawClient) -> None:
    told = beside(half, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (CHILDREN MYRIGHTS)')
    assert [len(lines) for lines in told.values()] == [1, 0]
    assert list(told) == ["INBOX", "foo"]


def test_rfc_9590_4_what_is_listed_for_its_children_has_no_metadata(half: RawClient) -> None:
    told = beside(half, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (METADATA ("/shared/vendor/cmu/x"))')
    assert told == {"INBOX": [b'* METADATA "INBOX" ("/shared/vendor/cmu/x" NIL)'], "foo": []}


def test_rfc_8438_2_the_size_stands_in_status_and_beside_list(barred: RawClient) -> None:
    size = len(mail(0))
    assert barred.ok("STATUS INBOX (MESSAGES SIZE)") == [b'* STATUS "INBOX" (MESSAGES 3 SIZE %d)' % (3 * size)]
    assert beside(barred, 'LIST "" % RETURN (STATUS (MESSAGES SIZE))') == {
        "INBOX": [b'* STATUS "INBOX" (MESSAGES 3 SIZE %d)' % (3 * size)],
        "foo": [b'* STATUS "foo" (MESSAGES 2 SIZE %d)' % (2 * size)],
        "bar": [],
    }


def test_rfc_7889_3_the_limit_is_told_by_capability_status_and_list(node: Node, barred: RawClient) -> None:
    limit = node.services.config.limits.message_bytes
    assert b"APPENDLIMIT=%d" % limit in barred.ok("CAPABILITY")[0].split()
    assert barred.ok("STATUS INBOX (APPENDLIMIT)") == [b'* STATUS "INBOX" (APPENDLIMIT %d)' % limit]
    assert beside(barred, 'LIST "" % RETURN (STATUS (APPENDLIMIT))') == {
        "INBOX": [b'* STATUS "INBOX" (APPENDLIMIT %d)' % limit],
        "foo": [b'* STATUS "foo" (APPENDLIMIT %d)' % limit],
        "bar": [],
    }


def test_rfc_7889_4_a_message_over_the_limit_is_not_even_sent(node: Node, bare: RawClient) -> None:
    size = node.services.config.limits.message_bytes + 1
    assert bare.command(b"APPEND INBOX (\\Seen) {%d}" % size)[-1].startswith(b"NO [TOOBIG] ")


# -- RFC 6154, SPECIAL-USE


@pytest.fixture
def special(bare: RawClient) -> RawClient:
    """The mailboxes of section 5.1."""
    for name in ("ToDo", "Projects", "Projects/Foo", "SentMail (USE (\\Sent))", "MyDrafts (USE (\\Drafts))"):
        bare.ok(f"CREATE {name}")
    bare.ok("CREATE Trash (USE (\\Trash))")
    return bare


USES = {"SentMail": entry("\\Sent"), "MyDrafts": entry("\\Drafts"), "Trash": entry("\\Trash")}


def test_rfc_6154_5_1_special_uses_are_told_and_asked_for(special: RawClient) -> None:
    top = {"INBOX": entry(), "ToDo": entry(), "Projects": entry(), **USES}
    assert listed(special, 'LIST "" "%"') == top
    assert listed(special, 'LIST "" "%" RETURN (SPECIAL-USE)') == top
    assert listed(special, 'LIST (SPECIAL-USE) "" "*"') == USES


def test_rfc_6154_5_2_a_mailbox_is_made_for_a_use_or_not_at_all(bare: RawClient) -> None:
    bare.ok("CREATE MySpecial (USE (\\Drafts))")
    assert listed(bare, 'LIST (SPECIAL-USE) "" "*"') == {"MySpecial": entry("\\Drafts")}
    for use in ("\\Frobs", "\\Drafts \\Sent", "\\Important"):
        assert bare.command(f"CREATE Everything (USE ({use}))")[-1].startswith(b"NO [USEATTR] ")
    assert "Everything" not in listed(bare, 'LIST "" "*"')


def test_rfc_6154_4_the_use_stands_in_the_metadata(special: RawClient) -> None:
    name = b'"/private/specialuse"'
    assert special.ok("GETMETADATA MyDrafts /private/specialuse") == [b'* METADATA "MyDrafts" (%b "\\\\Drafts")' % name]
    assert special.ok("GETMETADATA ToDo /private/specialuse") == [b'* METADATA "ToDo" (%b NIL)' % name]
    assert special.command('SETMETADATA ToDo (/private/specialuse "\\\\Sent")')[-1].startswith(b"NO [USEATTR] ")
    assert listed(special, 'LIST (SPECIAL-USE) "" "*"') == USES


# -- RFC 6851, MOVE; RFC 4315, UIDPLUS; RFC 3691, UNSELECT; RFC 8508, REPLACE


def test_rfc_6851_3_3_uid_move_tells_the_copies_then_what_went(node: Node, user: User, login: Login) -> None:
    fill(node, user, 6)
    client = login()
    client.ok("CREATE foo")
    validity = number_in(client.ok("STATUS foo (UIDVALIDITY)"), b"UIDVALIDITY")
    client.ok("SELECT INBOX")
    first, *told = client.ok("UID MOVE 2:4 foo")
    assert first.startswith(b"* OK [COPYUID %d 2:4 1:3] " % validity)
    assert left(told, 6) == [1, 5, 6]
    first, *told = client.ok("MOVE 1:2 foo")
    assert first.startswith(b"* OK [COPYUID %d 1,5 4:5] " % validity)
    assert left(told, 3) == [3]
    assert [place[:2] for place in node.held(user)] == [("INBOX", 6), *(("foo", uid) for uid in range(1, 6))]
    assert client.command("MOVE 1 absent")[-1].startswith(b"NO [TRYCREATE] ")


def test_rfc_6851_4_4_moved_messages_vanish_for_a_client_that_resynchronises(
    node: Node, user: User, login: Login
) -> None:
    fill(node, user, 3)
    client = login()
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    first, *told, last = client.command("UID MOVE 2:3 Archive")
    assert first.startswith(b"* OK [COPYUID ")
    assert told == [b"* VANISHED 2:3"]
    assert re.match(rb"OK \[HIGHESTMODSEQ \d+\] ", last)


def test_rfc_4315_2_1_uid_expunge_takes_what_is_marked_and_named(node: Node, user: User, login: Login) -> None:
    fill(node, user, 6)
    client = login()
    client.ok("SELECT INBOX")
    client.ok("STORE 1,3:5 +FLAGS.SILENT (\\Deleted)")
    assert left(client.ok("UID EXPUNGE 3:6"), 6) == [1, 2, 6]
    assert [uid for _, uid, _ in node.held(user)] == [1, 2, 6]


def test_rfc_4315_3_append_and_copy_tell_the_new_uids(login: Login) -> None:
    client = login()
    for name in ("saved-messages", "meeting"):
        client.ok(f"CREATE {name}")
    saved = number_in(client.ok("STATUS saved-messages (UIDVALIDITY)"), b"UIDVALIDITY")
    meeting = number_in(client.ok("STATUS meeting (UIDVALIDITY)"), b"UIDVALIDITY")
    for uid in range(1, 6):
        told = client.append("saved-messages", mail(uid), "(\\Seen) ")
        assert told.startswith(b"OK [APPENDUID %d %d] " % (saved, uid))
    client.ok("SELECT saved-messages")
    client.ok("STORE 3 +FLAGS.SILENT (\\Deleted)")
    client.ok("EXPUNGE")
    assert client.command("COPY 2:4 meeting")[-1].startswith(b"OK [COPYUID %d 2,4:5 1:3] " % meeting)
    (last,) = client.command("UID COPY 305:310 meeting")
    assert last.startswith(b"OK ")
    assert b"COPYUID" not in last


def test_rfc_3691_2_unselect_leaves_the_mailbox_and_what_is_marked_in_it(node: Node, user: User, login: Login) -> None:
    fill(node, user, 1)
    client = login()
    assert client.command("UNSELECT")[-1].startswith(b"BAD ")
    client.ok("SELECT INBOX")
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert client.command("UNSELECT") == [b"OK UNSELECT completed"]
    assert client.command("FETCH 1 FLAGS")[-1].startswith(b"BAD ")
    assert node.held(user) == [("INBOX", 1, ("\\Deleted",))]


def test_rfc_8508_3_3_a_message_is_replaced_by_uid(login: Login) -> None:
    client = login()
    for number in range(5):
        client.append("Drafts", mail(number))
    client.ok("SELECT Drafts")
    new = mail(9)
    *told, last = client.command(b"UID REPLACE 4 Drafts (\\Seen \\Draft $MDNSent) {%d+}\r\n%b" % (len(new), new))
    assert re.match(rb"\* OK \[APPENDUID \d+ 6\] ", told[0])
    assert b"* 4 EXPUNGE" in told
    assert b"* 5 EXISTS" in told
    assert last.startswith(b"OK ")


def test_rfc_8508_3_4_what_can_not_be_put_there_replaces_nothing(node: Node, user: User, login: Login) -> None:
    client = login()
    client.append("Drafts", mail(1))
    client.ok("SELECT Drafts")
    new = mail(9)
    last = client.command(b"REPLACE 1 absent {%d+}\r\n%b" % (len(new), new))[-1]
    assert last.startswith(b"NO [TRYCREATE] ")
    assert node.held(user) == [("Drafts", 1, ())]


# -- RFC 2177, IDLE


def _idles(client: RawClient, tag: bytes) -> None:
    client.send(tag + b" IDLE\r\n")
    assert client.response().startswith(b"+ ")


def _told(client: RawClient) -> bytes:
    """The next line that is not of what is recent."""
    while (line := client.response()).endswith(b" RECENT"):
        pass
    return line


def _done(client: RawClient, tag: bytes) -> None:
    client.send(b"DONE\r\n")
    assert client.until(tag)[-1].startswith(b"OK ")


def _expunge(client: RawClient, number: int) -> None:
    client.ok("NOOP")
    client.ok(f"STORE {number} +FLAGS.SILENT (\\Deleted)")
    client.ok("EXPUNGE")


def test_rfc_2177_3_the_example(node: Node, user: User, login: Login) -> None:
    fill(node, user, 3)
    client, other = login(), login()
    for one in (client, other):
        assert b"* 3 EXISTS" in one.ok("SELECT INBOX")
    _idles(client, b"A002")
    fill(node, user, 1)
    assert _told(client) == b"* 4 EXISTS"
    _done(client, b"A002")
    _expunge(other, 2)
    assert client.ok("FETCH 4 ALL")[0].startswith(b"* 4 FETCH (")  # and nothing of the expunge yet
    _idles(client, b"A004")
    told = [_told(client)]
    while told[-1] != b"* 2 EXPUNGE":
        told.append(_told(client))
    _expunge(other, 3)
    while told[-1] != b"* 3 EXPUNGE":
        told.append(_told(client))
    assert [line for line in told if b"EXPUNGE" in line] == [b"* 2 EXPUNGE", b"* 3 EXPUNGE"]
    fill(node, user, 1)
    assert _told(client) == b"* 3 EXISTS"
    _done(client, b"A004")
    assert client.ok("FETCH 3 ALL")[0].startswith(b"* 3 FETCH (")
    _idles(client, b"A006")
    _done(client, b"A006")


def test_rfc_2177_3_anything_but_done_is_bad(login: Login) -> None:
    client = login()
    _idles(client, b"A1")
    client.send(b"A2 NOOP\r\n")
    assert client.until(b"A1")[-1].startswith(b"BAD ")


# -- RFC 2971, ID; RFC 4959, SASL-IR; RFC 5161, ENABLE


def test_rfc_2971_3_1_and_3_2_either_side_says_who_it_is_or_not(connect: Login) -> None:
    client = connect()
    for command in ('ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")', "ID NIL"):
        (line,) = client.ok(command)
        assert re.match(rb'\* ID (NIL|\("name" "[^"]+")', line)
    assert client.command('ID ("name")')[-1].startswith(b"BAD ")


def test_rfc_4959_4_plain_with_and_without_an_initial_response(connect: Login, user: User) -> None:
    client = connect()
    offered = client.ok("CAPABILITY")[0].split()
    assert {b"SASL-IR", b"AUTH=PLAIN"} <= set(offered)
    response = base64.b64encode(f"\0{user.login}\0{PASSWORD}".encode())
    assert client.command(b"AUTHENTICATE PLAIN " + response)[-1].startswith(b"OK ")
    client = connect()
    client.send(b"A01 AUTHENTICATE PLAIN\r\n")
    assert client.response() == b"+ "
    client.send(response + b"\r\n")
    assert client.until(b"A01")[-1].startswith(b"OK ")


def test_rfc_4959_3_an_equals_sign_is_an_empty_response_and_not_none(connect: Login) -> None:
    (last,) = connect().command("AUTHENTICATE PLAIN =")  # no "+": the response was there, and is none of PLAIN's
    assert last.startswith((b"BAD ", b"NO "))


def test_rfc_5161_3_1_what_is_known_is_enabled_and_capabilities_stay(login: Login) -> None:
    client = login()
    before = client.ok("CAPABILITY")
    assert b"ENABLE" in before[0].split()
    assert client.ok("ENABLE CONDSTORE X-GOOD-IDEA") == [b"* ENABLED CONDSTORE"]
    assert client.ok("CAPABILITY") == before
    assert client.ok("ENABLE X-GOOD-IDEA") == [b"* ENABLED"]


# -- RFC 7162, CONDSTORE and QRESYNC


@pytest.fixture
def nine(node: Node, user: User, login: Login) -> tuple[RawClient, RawClient]:
    """Two sessions of one INBOX of nine messages, the first with CONDSTORE."""
    fill(node, user, 9)
    client, other = login(), login()
    client.ok("ENABLE CONDSTORE")
    client.ok("SELECT INBOX")
    other.ok("SELECT INBOX")
    return client, other


def _modseq(client: RawClient, number: int) -> int:
    """Of one message, once all that happened has been told."""
    client.ok("NOOP")
    return number_in(client.ok(f"FETCH {number} (MODSEQ)"), b"MODSEQ")


def test_rfc_7162_3_1_2_1_and_3_1_7_select_and_status_tell_the_highest_modseq(login: Login) -> None:
    client = login()
    highest = number_in(client.ok("SELECT INBOX (CONDSTORE)"), b"HIGHESTMODSEQ")
    told = client.ok("STATUS INBOX (UIDNEXT MESSAGES HIGHESTMODSEQ)")
    assert told == [b'* STATUS "INBOX" (UIDNEXT 1 MESSAGES 0 HIGHESTMODSEQ %d)' % highest]


def test_rfc_7162_3_1_3_example_5_those_that_others_changed_are_named(nine: tuple[RawClient, RawClient]) -> None:
    client, other = nine
    since = _modseq(client, 9)
    other.ok("STORE 7,9 +FLAGS.SILENT ($Processed)")
    *told, last = client.command(f"STORE 7,5,9 (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\\Deleted)")
    assert last.startswith(b"OK [MODIFIED 7,9] ")
    silent, *others = [line for line in told if b" FETCH " in line]
    assert re.fullmatch(rb"\* 5 FETCH \(MODSEQ \(\d+\)\)", silent)
    assert all(b"$Processed" in line and b"\\Deleted" not in line for line in others)


def test_rfc_7162_3_1_3_a_conditional_store_tells_flags_and_modseq(nine: tuple[RawClient, RawClient]) -> None:
    client, _ = nine
    since = _modseq(client, 6)
    (line,) = client.ok(f"UID STORE 6 (UNCHANGEDSINCE {since}) +FLAGS (\\Flagged)")
    assert re.fullmatch(rb"\* 6 FETCH \(UID 6 FLAGS \(\\Flagged \\Recent\) MODSEQ \(\d+\)\)", line), line


def test_rfc_7162_3_1_4_1_changed_since_implies_modseq(nine: tuple[RawClient, RawClient]) -> None:
    client, other = nine
    since = _modseq(client, 9)
    other.ok("STORE 4,6 +FLAGS.SILENT (\\Answered)")
    told = client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since})")
    fetched = {number_in([line], b"UID"): line for line in told if b"UID " in line}
    assert set(fetched) == {4, 6}
    assert all(re.search(rb" MODSEQ \(\d+\)", line) for line in fetched.values())


def test_rfc_7162_3_1_5_and_3_1_6_a_search_by_modseq_tells_the_highest(nine: tuple[RawClient, RawClient]) -> None:
    client, _ = nine
    since = _modseq(client, 9) + 1
    client.ok("STORE 2,5 +FLAGS.SILENT (\\Draft)")
    client.ok("STORE 8 +FLAGS.SILENT (\\Draft)")
    highest = _modseq(client, 8)
    assert client.ok(f"SEARCH MODSEQ {since}") == [b"* SEARCH 2 5 8 (MODSEQ %d)" % highest]
    assert client.ok(f'SEARCH MODSEQ "/flags/\\\\draft" all {since}') == [b"* SEARCH 2 5 8 (MODSEQ %d)" % highest]
    assert client.ok(f"SEARCH OR NOT MODSEQ {since} LARGER 50000 FLAGGED") == [b"* SEARCH"]


def test_rfc_7162_3_1_10_and_rfc_4731_3_2_the_modseq_is_of_what_is_returned(
    nine: tuple[RawClient, RawClient],
) -> None:
    client, _ = nine
    since = _modseq(client, 9) + 1
    for number in (5, 2, 8, 3):  # the newest change is neither the first nor the last
        client.ok(f"STORE {number} +FLAGS.SILENT (\\Draft)")
    modseqs = {number: _modseq(client, number) for number in (2, 3, 5, 8)}
    for options, found, highest in (
        ("ALL", "ALL 2:3,5,8", max(modseqs.values())),
        ("MIN", "MIN 2", modseqs[2]),
        ("MAX", "MAX 8", modseqs[8]),
        ("MIN MAX", "MIN 2 MAX 8", max(modseqs[2], modseqs[8])),
        ("COUNT", "COUNT 4", max(modseqs.values())),
    ):
        (line,) = client.ok(f"SEARCH RETURN ({options}) MODSEQ {since}")
        assert line == b'* ESEARCH (TAG "t%d") %b MODSEQ %d' % (client.tags, found.encode(), highest)


def test_rfc_7162_3_2_5_and_3_2_6_what_vanished_is_told_before_what_changed(
    node: Node, user: User, login: Login
) -> None:
    fill(node, user, 9)
    client, other = login(), login()
    client.ok("ENABLE QRESYNC")
    opened = client.ok("SELECT INBOX")
    validity, since = number_in(opened, b"UIDVALIDITY"), number_in(opened, b"HIGHESTMODSEQ")
    client.ok("UNSELECT")
    other.ok("SELECT INBOX")
    other.ok("STORE 3:5,8 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    other.ok("UID STORE 6 +FLAGS.SILENT (\\Seen)")
    told = client.ok(f"SELECT INBOX (QRESYNC ({validity} {since} 1:9))")
    gone, changed = [line for line in told if line.startswith(b"* VANISHED") or b" FETCH " in line]
    assert gone == b"* VANISHED (EARLIER) 3:5,8"
    assert re.match(rb"\* 3 FETCH \(UID 6 FLAGS \(\\Seen[^)]*\) MODSEQ \(\d+\)\)", changed)
    assert client.ok(f"UID FETCH 3:9 (FLAGS) (CHANGEDSINCE {since} VANISHED)") == [gone, changed]


def test_rfc_7162_3_2_7_to_3_2_9_expunge_uid_expunge_and_close_tell_the_modseq(
    node: Node, user: User, login: Login
) -> None:
    fill(node, user, 6)
    client = login()
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    client.ok("STORE 1,3:6 +FLAGS.SILENT (\\Deleted)")
    gone, last = client.command("UID EXPUNGE 3:4")
    assert gone == b"* VANISHED 3:4"
    assert re.match(rb"OK \[HIGHESTMODSEQ \d+\] ", last)
    gone, last = client.command("EXPUNGE")
    assert gone == b"* VANISHED 1,5:6"
    assert re.match(rb"OK \[HIGHESTMODSEQ \d+\] ", last)
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    (last,) = client.command("CLOSE")
    assert re.match(rb"OK \[HIGHESTMODSEQ \d+\] ", last)


def test_rfc_7162_3_2_11_the_mailbox_before_is_told_to_be_closed(login: Login) -> None:
    client = login()
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    assert client.ok("SELECT Drafts")[0].startswith(b"* OK [CLOSED] ")


# -- RFC 5032, WITHIN; RFC 4978, COMPRESS


def test_rfc_5032_3_intervals_are_seconds_and_none_of_them_is_bad(nine: tuple[RawClient, RawClient]) -> None:
    client, _ = nine
    assert client.ok("SEARCH UNSEEN OLDER 345600") == [b"* SEARCH 1 2 3 4 5 6 7 8 9"]
    assert client.ok("SEARCH UNSEEN YOUNGER 259200") == [b"* SEARCH"]
    for wrong in ("0", "-1", "soon"):
        assert client.command(f"SEARCH YOUNGER {wrong}")[-1].startswith(b"BAD ")


def test_rfc_4978_3_a_mechanism_that_is_not_known_is_refused(login: Login) -> None:
    client = login()
    assert client.command("COMPRESS FROB")[-1].startswith((b"BAD ", b"NO "))
    client.ok("NOOP")
