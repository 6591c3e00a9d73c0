"""A script of all kinds of commands to us and to Dovecot: the same answers, or an explanation in docs/dovecot.md."""

import re
from collections.abc import Callable, Iterator

import pytest

from tests.nodes.imap.beside import Difference, hold_against_the_table, shown, values
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import Node

MESSAGES = (
    b"From: Ann <ann@example.org>\r\nTo: b@example.org\r\nSubject: lunch\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n\r\nsoup today\r\n",
    b"From: Bob <bob@example.org>\r\nTo: a@example.org\r\nSubject: Re: lunch\r\n"
    b"Date: Tue, 2 Jan 2024 10:00:00 +0000\r\n"
    b"Message-ID: <2@example.org>\r\nIn-Reply-To: <1@example.org>\r\nReferences: <1@example.org>\r\n\r\nyes\r\n",
    b"From: Zoe <zoe@example.org>\r\nCc: ann@example.org\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n"
    b"Date: Sun, 31 Dec 2023 23:00:00 -0500\r\nMessage-ID: <3@example.org>\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 au lait\r\n",
    b"From: Ann <ann@example.org>\r\nSubject: parts\r\nDate: Wed, 3 Jan 2024 10:00:00 +0000\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nplain text\r\n--b\r\nContent-Type: image/png\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n",
    b"From: Ann <ann@example.org>\r\nSubject: last\r\n\r\n" + b"long line of text\r\n" * 100,
)

SCRIPT = """\
NAMESPACE
LIST "" ""
LIST "" *
LIST "" %
CREATE Work
CREATE Work/2024
CREATE Work/2024
CREATE INBOX
CREATE inbox
CREATE Deep/er/est
CREATE Trailing/
CREATE "caf&AOk-"
LIST "" *
LIST "" %
LIST "" Work/%
LIST "" *2*
LIST Work/ %
LIST Work %
LIST "" Inbox
LIST "" (INBOX Work)
LIST (SUBSCRIBED) "" *
LIST "" * RETURN (CHILDREN)
LIST "" Work RETURN (STATUS (MESSAGES UIDNEXT))
LIST "" nothing
SUBSCRIBE Work
SUBSCRIBE Work/2024
LSUB "" *
LSUB "" %
LSUB "" Work/%
LIST (SUBSCRIBED) "" *
LIST (SUBSCRIBED RECURSIVEMATCH) "" %
LIST "" Work/* RETURN (SUBSCRIBED)
LIST (RECURSIVEMATCH) "" *
UNSUBSCRIBE Work/2024
UNSUBSCRIBE Work/2024
LSUB "" %
RENAME Work/2024 Work/2025
RENAME nothing elsewhere
RENAME Work Deep
DELETE Work
DELETE nothing
DELETE INBOX
LIST "" Work*
STATUS INBOX (MESSAGES UIDNEXT UNSEEN RECENT)
STATUS INBOX (MESSAGES SIZE)
STATUS INBOX ()
STATUS INBOX (BOGUS)
STATUS nothing (MESSAGES)
SELECT nothing
FETCH 1 FLAGS
SELECT INBOX
SEARCH ALL
SEARCH 1:3
SEARCH NOT 1
SEARCH UID 2:*
SEARCH SUBJECT lunch
SEARCH FROM ann
SEARCH TO b@
SEARCH CC ann
SEARCH BCC x
SEARCH BODY soup
SEARCH TEXT LUNCH
SEARCH HEADER Message-ID <2@
SEARCH HEADER References ""
SEARCH OR FROM bob SUBJECT parts
SEARCH (FROM ann SUBJECT parts)
SEARCH NOT (OR FROM ann FROM bob)
SEARCH SENTBEFORE 2-Jan-2024
SEARCH SENTON 1-Jan-2024
SEARCH SENTON 31-Dec-2023
SEARCH SENTSINCE 2-Jan-2024
SEARCH BEFORE 1-Jan-2020
SEARCH SINCE 1-Jan-2020
SEARCH LARGER 1000
SEARCH SMALLER 200
SEARCH SEEN
SEARCH UNSEEN
SEARCH KEYWORD nothing
SEARCH UNKEYWORD nothing
SEARCH CHARSET UTF-8 SUBJECT {5+}\\r\\ncaf\xe9
SEARCH CHARSET BOGUS SUBJECT x
SEARCH YOUNGER 3600
SEARCH OLDER 3600
SEARCH 99
SEARCH
SEARCH BOGUS
SEARCH FROM
SEARCH OR SEEN
UID SEARCH ALL
UID SEARCH 99
SEARCH RETURN () ALL
SEARCH RETURN (MIN MAX COUNT) ALL
SEARCH RETURN (ALL) SUBJECT nothing
SEARCH RETURN (COUNT) SUBJECT nothing
SEARCH RETURN (MIN) SUBJECT nothing
SEARCH RETURN (SAVE) FROM ann
SEARCH $
FETCH $ (UID)
UID SEARCH RETURN (PARTIAL 1:2) ALL
SEARCH RETURN (BOGUS) ALL
SORT (SUBJECT) UTF-8 ALL
SORT (REVERSE DATE) UTF-8 ALL
SORT (SIZE) UTF-8 ALL
SORT (FROM SUBJECT) UTF-8 ALL
SORT (DISPLAYFROM) UTF-8 ALL
SORT (ARRIVAL) US-ASCII ALL
SORT (CC TO) UTF-8 ALL
UID SORT (DATE) UTF-8 FROM ann
SORT () UTF-8 ALL
SORT (BOGUS) UTF-8 ALL
SORT RETURN (MIN COUNT) (DATE) UTF-8 ALL
THREAD REFERENCES UTF-8 ALL
THREAD ORDEREDSUBJECT UTF-8 ALL
UID THREAD REFERENCES UTF-8 ALL
THREAD BOGUS UTF-8 ALL
FETCH 1 FLAGS
FETCH 1 (FLAGS UID)
FETCH 1:2 RFC822.SIZE
FETCH * UID
FETCH 99 UID
FETCH 4:99 UID
FETCH 0 UID
UID FETCH 99 FLAGS
UID FETCH 1:* UID
FETCH 1 ENVELOPE
FETCH 3 ENVELOPE
FETCH 4 BODYSTRUCTURE
FETCH 4 BODY
FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]
FETCH 1 BODY.PEEK[TEXT]<0.4>
FETCH 1 BODY.PEEK[TEXT]<400.4>
FETCH 1 BODY.PEEK[]<5.0>
FETCH 4 BODY.PEEK[1]
FETCH 4 BODY.PEEK[3]
FETCH 4 BODY.PEEK[1.1]
FETCH 4 BODY.PEEK[1.HEADER]
FETCH 4 BODY.PEEK[2.MIME]
FETCH 4 BINARY.PEEK[2]
FETCH 4 BINARY.SIZE[2]
FETCH 4 BINARY.PEEK[2]<1.2>
FETCH 3 BINARY.PEEK[1]
FETCH 1 BODY[TEXT]
FETCH 2 RFC822.HEADER
FETCH 2 RFC822.TEXT
FETCH 1 BOGUS
FETCH 1 ()
FETCH 1 BODY[BOGUS]
FETCH x FLAGS
FETCH 1 PREVIEW
FETCH 1:2 FAST
STORE 1 +FLAGS (\\Flagged)
STORE 1 -FLAGS (\\Flagged)
STORE 1 FLAGS (\\Answered Work)
STORE 1 FLAGS.SILENT ()
STORE 1:2 +FLAGS.SILENT (\\Seen)
STORE 2 FLAGS \\Draft \\Seen
STORE 1 +FLAGS (\\Recent)
STORE 1 +FLAGS (\\Bogus)
STORE 99 +FLAGS (\\Seen)
STORE 1 BOGUS (\\Seen)
UID STORE 3 +FLAGS (\\Seen)
UID STORE 99 +FLAGS (\\Seen)
SEARCH SEEN
SEARCH DRAFT
COPY 1:2 Work
COPY 1 nothing
COPY 99 Work
UID COPY 3 Work
UID COPY 99 Work
MOVE 5 Work
MOVE 1 nothing
UID MOVE 99 Work
STORE 1 +FLAGS.SILENT (\\Deleted)
UID EXPUNGE 2
UID EXPUNGE 1
STORE 1 +FLAGS.SILENT (\\Deleted)
EXPUNGE
EXPUNGE
NOOP
CHECK
EXAMINE INBOX
STORE 1 +FLAGS (\\Seen)
EXPUNGE
UNSELECT
UNSELECT
CLOSE
ID NIL
ENABLE BOGUS
BOGUS
SELECT
SELECT ""
SELECT INBOX (BOGUS)
APPEND nothing {3+}\\r\\nx:y
UID BOGUS 1
"""

_CODE = re.compile(rb"((?:\* )?(?:OK|NO|BAD|BYE|PREAUTH))(?: \[([^]]*)\])?.*", re.DOTALL)
_TIMED = re.compile(rb"(UIDVALIDITY|APPENDUID|COPYUID|HIGHESTMODSEQ|MODSEQ|MAILBOXID) (?:\d+|\([^)]*\))")
# Made with the account.
_OWN_FOLDER = re.compile(
    rb'\* (LIST|LSUB) \([^)]*\) "/" "?(Archive|Drafts|Junk|Sent|Trash)"?$'
)  # made with the account


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One that does not hang up on a client of so many bad commands."""
    running = Node(tmp_path_factory.mktemp("node"), {"errors": 1000})
    yield running
    running.stop()


def _alike(lines: list[bytes]) -> str:
    """The answers as one text, without what differs by nature: words for people, times and counters of the server."""
    told = [text for line in lines if (text := _one(line))]
    *untagged, last = told
    if told[0].startswith(("LIST", "LSUB")):
        untagged.sort()  # no order is promised
    return " / ".join([*untagged, last])


def _one(line: bytes) -> str:
    if re.match(rb"\* FLAGS |\* OK \[(PERMANENTFLAGS|MAILBOXID|HIGHESTMODSEQ)|\* \d+ RECENT", line):
        return ""
    if _OWN_FOLDER.match(line):
        return ""
    line = _TIMED.sub(rb"\1 #", line).replace(b" [MAILBOXID #]", b"")
    line = re.sub(rb"TAG \"?t\d+\"?", b"TAG", line)
    if status := _CODE.fullmatch(line):
        return (status[1] + (b" [" + status[2] + b"]" if status[2] else b"")).decode("ascii", "replace")
    found = values(line)
    if len(found) == 4 and found[2] == b"FETCH" and isinstance(found[3], list):
        items = found[3]
        pairs = sorted(f"{shown(name)} {_flags(value)}" for name, value in zip(items[::2], items[1::2], strict=True))
        return f"{shown(found[1])} FETCH {' '.join(pairs)}".replace('"', "")
    if found[1] in (b"LIST", b"LSUB"):
        attributes = found[2] if isinstance(found[2], list) else []
        found[2] = [*sorted(one for one in attributes if isinstance(one, bytes))]
    if found[1] == b"STATUS" and isinstance(found[3], list):
        pairs = sorted(
            f"{shown(name)} {shown(value)}" for name, value in zip(found[3][::2], found[3][1::2], strict=True)
        )
        found[3] = [pair.encode() for pair in pairs]
    return " ".join(map(_flags, found[1:])).replace('"', "")


def _flags(value: object) -> str:
    """A list of flags in order, without what only the first session sees."""
    if isinstance(value, list) and all(isinstance(one, bytes) for one in value):
        value = sorted(one for one in value if one != b"\\Recent")
    return shown(value)  # type: ignore[arg-type]


def _played(client: RawClient) -> list[str]:
    for number, message in enumerate(MESSAGES):
        assert client.append("INBOX", message, f'"0{number + 1}-Feb-2024 10:00:00 +0000" ').startswith(b"OK")
    commands = [line.replace("\\r\\n", "\r\n") for line in SCRIPT.splitlines()]
    return [_alike(client.command(command)) for command in commands]


def test_dovecot_answers_a_script_of_commands_alike(
    login: Callable[[], RawClient], dovecot: Callable[[], RawClient]
) -> None:
    ours, theirs = _played(login()), _played(dovecot())
    answers = zip(SCRIPT.splitlines(), ours, theirs, strict=True)
    found = {Difference(command, one, other) for command, one, other in answers if one != other}
    hold_against_the_table("Commands", found)
