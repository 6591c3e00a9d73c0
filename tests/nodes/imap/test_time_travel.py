"""What a session as of a moment answers and what it refuses: every command of the grammars' tables is in one class.

A look is opened on a mailbox as it was before all was moved, marked and deleted; each read command must be answered
with what was there then, each write command refused with a text that says why, and nothing may have changed.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from nodes.imap import grammar
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

REFUSED = b"NO [NOPERM] this is the mailbox as of "


class Read(NamedTuple):
    """A command that reads, and what one of the responses has in it."""

    command: str
    answer: bytes


MESSAGES = "From: a@example.org\r\nSubject: first\r\nMessage-ID: <1@x>\r\nContent-Type: text/plain; charset=utf-8\r\n"
FIRST = (MESSAGES + "Content-Transfer-Encoding: base64\r\n\r\nd29yZHM=\r\n").encode()
SECOND = b"From: b@example.org\r\nSubject: Re: first\r\nMessage-ID: <2@x>\r\nReferences: <1@x>\r\n\r\nanother\r\n"

# name as in the tables, with UID in front where it is there too: what is asked, in the mailbox that is selected
READS: dict[str, tuple[Read, ...]] = {
    "CAPABILITY": (Read("CAPABILITY", b"* CAPABILITY IMAP4rev1"),),
    "NOOP": (Read("NOOP", b""),),
    "CHECK": (Read("CHECK", b""),),
    "ID": (Read('ID ("name" "x")', b"* ID ("),),
    "NAMESPACE": (Read("NAMESPACE", b'(("" "/"))'),),
    "ENABLE": (Read("ENABLE CONDSTORE", b"* ENABLED CONDSTORE"),),
    "LIST": (
        Read('LIST "" "*"', b'"Then"'),
        Read('LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT SIZE))', b"MESSAGES 2 UIDNEXT 3 SIZE"),
        Read('LIST (SUBSCRIBED) "" "*" RETURN (CHILDREN)', b"\\Subscribed"),
        Read('LIST "" "*" RETURN (MYRIGHTS METADATA (/private/comment))', b'"then"'),
        Read('LIST (SPECIAL-USE) "" "*"', b"\\Drafts"),
    ),
    "LSUB": (Read('LSUB "" "*"', b'"INBOX"'),),
    "STATUS": (
        Read("STATUS INBOX (MESSAGES UNSEEN UIDNEXT SIZE HIGHESTMODSEQ DELETED MAILBOXID)", b"MESSAGES 2 UNSEEN 1"),
    ),
    "SELECT": (Read("SELECT INBOX", b"* 2 EXISTS"), Read("SELECT Then (CONDSTORE)", b"* 0 EXISTS")),
    "EXAMINE": (Read("EXAMINE INBOX", b"* 2 EXISTS"),),
    "FETCH": (
        Read("FETCH 1 (FLAGS UID INTERNALDATE RFC822.SIZE)", b"FLAGS (\\Seen)"),
        Read("FETCH 1 (ENVELOPE BODYSTRUCTURE)", b'"first"'),
        Read("FETCH 2 (BODY[] MODSEQ SAVEDATE EMAILID THREADID)", b"another"),
        Read("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", b"Subject: first"),
        Read("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])", b"words"),
        Read("FETCH 1 (PREVIEW)", b'"words"'),
        Read("FETCH 1:* (UID) (CHANGEDSINCE 1)", b"UID 2"),
    ),
    "UID FETCH": (
        Read("UID FETCH 2 BODY.PEEK[TEXT]", b"another"),
        Read("UID FETCH 1:* (FLAGS) (PARTIAL -1:-1)", b"UID 2"),
    ),
    "SEARCH": (
        Read("SEARCH SUBJECT first", b"* SEARCH 1 2"),
        Read("SEARCH TEXT words", b"* SEARCH 1"),
        Read("SEARCH RETURN (MIN MAX COUNT) ALL", b"MIN 1 MAX 2 COUNT 2"),
        Read("SEARCH RETURN (PARTIAL -1:-1) ALL", b"PARTIAL (-1:-1 2)"),
        Read("SEARCH RETURN (UPDATE COUNT) SEEN", b"COUNT 1"),
        Read("SEARCH RETURN (SAVE) SEEN", b""),
        Read("SEARCH $ YOUNGER 4000000000", b"* SEARCH 1"),
    ),
    "UID SEARCH": (Read("UID SEARCH UNSEEN", b"* SEARCH 2"),),
    "SORT": (Read("SORT (REVERSE ARRIVAL) UTF-8 ALL", b"* SORT 2 1"),),
    "UID SORT": (Read("UID SORT RETURN (ALL) (REVERSE FROM) UTF-8 ALL", b"ALL 2,1"),),
    "THREAD": (Read("THREAD REFERENCES UTF-8 ALL", b"* THREAD (1 2)"),),
    "UID THREAD": (Read("UID THREAD ORDEREDSUBJECT UTF-8 ALL", b"* THREAD (1 2)"),),
    "ESEARCH": (Read("ESEARCH IN (personal) RETURN (COUNT) SUBJECT first", b"COUNT 2"),),
    "CANCELUPDATE": (Read('CANCELUPDATE "t2"', b""),),
    "GETMETADATA": (Read("GETMETADATA INBOX /private/comment", b'"then"'),),
    "GETQUOTA": (Read('GETQUOTA ""', b'* QUOTA "" '),),
    "GETQUOTAROOT": (Read("GETQUOTAROOT INBOX", b"* QUOTAROOT "),),
    "GETACL": (Read("GETACL INBOX", b'* ACL "INBOX" '),),
    "LISTRIGHTS": (Read("LISTRIGHTS INBOX user0@example.test", b'* LISTRIGHTS "INBOX" '),),
    "MYRIGHTS": (Read("MYRIGHTS INBOX", b'* MYRIGHTS "INBOX" '),),
    "NOTIFY": (
        Read("NOTIFY SET STATUS (personal (MessageNew MessageExpunge))", b'* STATUS "Then" '),
        Read("NOTIFY NONE", b""),
    ),
    "CLOSE": (Read("CLOSE", b""),),
    "UNSELECT": (Read("UNSELECT", b""),),
}
WRITES: dict[str, tuple[str, ...]] = {
    "APPEND": (
        "APPEND INBOX {1+}\r\nx",
        "APPEND INBOX CATENATE (TEXT {1+}\r\nx)",
        "APPEND INBOX {1+}\r\nx {1+}\r\ny",
        "APPEND INBOX ~{1+}\r\nx",
    ),
    "REPLACE": ("REPLACE 1 INBOX {1+}\r\nx",),
    "UID REPLACE": ("UID REPLACE 1 INBOX {1+}\r\nx",),
    "CREATE": ("CREATE new", "CREATE new (USE (\\Junk))"),
    "DELETE": ("DELETE Then",),
    "RENAME": ("RENAME Then Other",),
    "SUBSCRIBE": ("SUBSCRIBE Then",),
    "UNSUBSCRIBE": ("UNSUBSCRIBE INBOX",),
    "EXPUNGE": ("EXPUNGE",),
    "UID EXPUNGE": ("UID EXPUNGE 1",),
    "STORE": ("STORE 1 +FLAGS (\\Deleted)", "STORE 1 (UNCHANGEDSINCE 99) FLAGS (x)"),
    "UID STORE": ("UID STORE 1 -FLAGS.SILENT (\\Seen)",),
    "COPY": ("COPY 1 Then",),
    "UID COPY": ("UID COPY 1 Then",),
    "MOVE": ("MOVE 1 Then",),
    "UID MOVE": ("UID MOVE 1 Then",),
    "SETMETADATA": ('SETMETADATA INBOX (/private/comment "x")', 'SETMETADATA "" (/private/comment NIL)'),
    "SETACL": ("SETACL INBOX anyone lr",),
    "DELETEACL": ("DELETEACL INBOX anyone",),
}
# those whose answer is no list of responses: each has a test of its own, here or where it is named
ELSEWHERE = {
    "LOGIN": "the log-in itself",
    "AUTHENTICATE": "the log-in itself",
    "STARTTLS": "before log-in",
    "LOGOUT": "below",
    "SETQUOTA": "refused to everybody: test_metadata.py",
    "IDLE": "test_notify.py::test_idle_in_the_past_is_quiet_while_the_present_hears_of_mail",
    "COMPRESS": "test_rev2.py::test_a_session_of_the_past_may_be_compressed",
}


class Past(NamedTuple):
    """A node where everything has happened since, whose it is, and the position before."""

    node: Node
    user: User
    position: int


@pytest.fixture(scope="module")
def past(node: Node) -> Past:
    user = node.add_user()
    client = RawClient(node.port)
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    client.ok("CREATE Then")
    client.append("INBOX", FIRST, "(\\Seen) ")
    client.append("INBOX", SECOND)
    client.ok('SETMETADATA INBOX (/private/comment "then")')
    position = node.log.status().applied
    for since in (
        "SELECT INBOX",
        "STORE 1:2 FLAGS (\\Deleted)",
        "EXPUNGE",
        "DELETE Then",
        'SETMETADATA INBOX (/private/comment "now")',
        "CREATE Now",
    ):
        client.ok(since)
    client.close()
    return Past(node, user, position)


@pytest.fixture
def look(past: Past) -> Iterator[Callable[[], RawClient]]:
    opened: list[RawClient] = []

    def back() -> RawClient:
        client = RawClient(past.node.port)
        opened.append(client)
        client.ok(f'LOGIN "{past.user.login}@@#{past.position}" "{PASSWORD}"')
        assert client.command("SELECT INBOX")[-1].startswith(b"OK [READ-ONLY] ")
        return client

    yield back
    for client in opened:
        client.close()


def test_each_command_is_of_one_class() -> None:
    known = set(grammar.COMMANDS) | {f"UID {name}" for name in grammar.UID_COMMANDS}
    classes = (READS, WRITES, ELSEWHERE)
    assert known == {name for one in classes for name in one}
    assert sum(len(one) for one in classes) == len(known)


def test_each_command_that_reads_is_answered_as_of_then(look: Callable[[], RawClient], past: Past) -> None:
    client, wrong = look(), []
    for reads in READS.values():
        for command, answer in reads:
            *told, last = client.command(command.replace("user0@example.test", past.user.login))
            if not last.startswith(b"OK") or (answer and not any(answer in line for line in told)):
                wrong.append((command, told, last))
        if client.command("NOOP")[-1].startswith(b"OK"):
            client.command("SELECT INBOX")
    assert not wrong, "\n".join(map(str, wrong))


def test_each_command_that_reads_is_answered_where_messages_are_named_by_uid_alone(
    look: Callable[[], RawClient],
) -> None:
    client = look()
    client.ok("ENABLE UIDONLY")
    assert client.ok("SELECT INBOX")[:1] != []
    assert client.ok("UID FETCH 1:* (FLAGS)")[0] == b"* 1 UIDFETCH (FLAGS (\\Seen))"
    assert client.ok("UID SEARCH RETURN (ALL) SUBJECT first")[0].endswith(b"UID ALL 1:2")
    assert client.command("UID STORE 1 FLAGS (x)")[-1].startswith(REFUSED)


@pytest.mark.parametrize("select", ["SELECT", "EXAMINE"])
def test_each_command_that_writes_is_refused_and_says_why(
    look: Callable[[], RawClient], past: Past, select: str
) -> None:
    client = look()
    client.ok(f"{select} INBOX")
    before = past.node.log.status().applied
    told = {one: client.command(one)[-1] for those in WRITES.values() for one in those}
    assert {one: last for one, last in told.items() if not last.startswith(REFUSED)} == {}
    assert all(last.endswith(b": nothing can be changed") for last in told.values())
    assert past.node.log.status().applied == before


def test_the_session_ends_as_any_other_and_has_changed_nothing(look: Callable[[], RawClient], past: Past) -> None:
    client = look()
    before = past.node.log.status().applied
    client.ok("FETCH 1:2 BODY[]")  # which sets \Seen elsewhere
    assert b"FLAGS ()" in client.ok("FETCH 2 FLAGS")[0]
    assert client.ok("LOGOUT")[0].startswith(b"* BYE")
    assert past.node.log.status().applied == before
