"""CONDSTORE and QRESYNC beside Dovecot: the same commands to both, the same answers but for what is explained here.

Dovecot's imap runs by itself on a folder, without its daemon. What differs by nature is made alike: UIDVALIDITY, the
values of MODSEQ (their order counts), words for people, the order of items, quotes. Dovecot tells the keywords of a
mailbox more often, in FLAGS and PERMANENTFLAGS, and RECENT behind an EXPUNGE; it has no MAILBOXID; it calls STATUS of
the selected mailbox a client's bug; and it gives no HIGHESTMODSEQ at CLOSE, which RFC 7162 3.2.8 asks for.
"""

import re
from collections.abc import Callable

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

# Two sessions, a and b; $V is UIDVALIDITY, $M the MODSEQ at the beginning, $N the one behind it.
SCRIPT = """\
a ENABLE QRESYNC X
a SELECT INBOX
b SELECT INBOX
b STORE 2,4 +FLAGS (\\Deleted)
b EXPUNGE
a NOOP
a UID FETCH 1:* (FLAGS) (CHANGEDSINCE $M VANISHED)
a UID FETCH 1:4 (FLAGS) (CHANGEDSINCE $M VANISHED)
a UID STORE 1,3 (UNCHANGEDSINCE $M) +FLAGS (\\Flagged)
a UID STORE 1,3,5 (UNCHANGEDSINCE $M) +FLAGS.SILENT (Work)
a UID SEARCH MODSEQ $N
a SEARCH RETURN (ALL) MODSEQ "/flags/\\\\draft" all $N
a SEARCH RETURN (ALL) MODSEQ $N
a STATUS INBOX (HIGHESTMODSEQ)
b FETCH 1 (MODSEQ)
b STORE 1 +FLAGS.SILENT (x)
b STORE 1 (UNCHANGEDSINCE 0) +FLAGS (y)
a CLOSE
a SELECT INBOX (QRESYNC ($V $M))
a SELECT INBOX (QRESYNC ($V $M 1:3))
a SELECT INBOX (QRESYNC ($V $M 1:6 (1,3 1,5)))
a UID STORE 1 +FLAGS (\\Deleted)
a CLOSE
a SELECT INBOX (QRESYNC (1 1))
a EXAMINE INBOX (CONDSTORE)
a UID FETCH 1:* (FLAGS) (VANISHED)
a FETCH 1:* (FLAGS) (CHANGEDSINCE $M VANISHED)
b UID EXPUNGE 1:*
"""


def _played(make: Callable[[], RawClient]) -> list[tuple[str, list[bytes]]]:
    clients = {"a": make(), "b": make()}
    for number in range(6):
        assert clients["a"].append("INBOX", b"Subject: %d\r\n\r\nx\r\n" % number).startswith(b"OK")
    (status,) = clients["a"].ok("STATUS INBOX (UIDVALIDITY HIGHESTMODSEQ)")
    validity, modseq = (int(one) for one in re.findall(rb"(?:VALIDITY|MODSEQ) (\d+)", status))
    values = {"$V": validity, "$M": modseq, "$N": modseq + 1}
    answers = []
    for line in SCRIPT.splitlines():
        who, _, command = line.partition(" ")
        for name, value in values.items():
            command = command.replace(name, str(value))
        answers.append((line, clients[who].command(command)))
    return answers


_OWN = re.compile(rb"\* FLAGS |\* OK \[(PERMANENTFLAGS|MAILBOXID) |\* \d+ RECENT")
_FETCH = re.compile(rb"(\* \d+ FETCH )\((.*)\)")
_ITEM = re.compile(rb"[A-Z]+ (?:\([^)]*\)|\S+)")


def _alike(answers: list[tuple[str, list[bytes]]]) -> list[tuple[str, list[bytes]]]:
    """Without what differs by nature."""
    found = {int(one) for _, lines in answers for line in lines for one in re.findall(rb"MODSEQ[ (]+(\d+)", line)}
    rank = {modseq: b"#%d" % number for number, modseq in enumerate(sorted(found))}
    return [(command, [_plain(line, rank) for line in lines if not _OWN.match(line)]) for command, lines in answers]


def _plain(line: bytes, rank: dict[int, bytes]) -> bytes:
    line = re.sub(rb"(MODSEQ[ (]+)(\d+)", lambda match: match[1] + rank[int(match[2])], line)
    line = re.sub(rb"UIDVALIDITY \d+", b"UIDVALIDITY", line).replace(b'"', b"")
    line = re.sub(rb"TAG t\d+", b"TAG", line)
    line = re.sub(rb"^((?:\* )?(?:OK|NO|BAD)(?: \[[^]]*\])?).*", rb"\1", line)
    line = line.replace(b" [CLIENTBUG]", b"")
    fetch = _FETCH.match(line)
    if fetch is None:
        return line
    items = [b"FLAGS (" + b" ".join(sorted(one[7:-1].split())) + b")" if one[:5] == b"FLAGS" else one
             for one in _ITEM.findall(fetch[2])]  # fmt: skip
    return fetch[1] + b" ".join(sorted(items))


def test_dovecot_gives_the_same_answers(
    node: Node, user: User, connect: Callable[[], RawClient], dovecot: Callable[[], RawClient]
) -> None:
    def ours() -> RawClient:
        client = connect()
        client.ok(f'LOGIN {user.login} "{PASSWORD}"')
        return client

    mine, theirs = _alike(_played(ours)), _alike(_played(dovecot))
    closing = [at for at, (command, _) in enumerate(mine) if command == "a CLOSE"]
    for at in closing:
        mine[at][1][-1] = re.sub(rb"OK \[HIGHESTMODSEQ #\d+\]", b"OK", mine[at][1][-1])
    assert [pair for pair in zip(mine, theirs, strict=True) if pair[0] != pair[1]] == []
