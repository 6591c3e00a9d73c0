"""POP3 as of a moment: each command of the states' table is answered as of then, or refused and says why."""

from collections.abc import Callable

from nodes.pop3.states import LEGAL, State
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

BODY = b"Subject: then\r\n\r\none\r\ntwo\r\n"
# how each reads when there was one message then, and there is none now; "." ends an answer of several lines
READS = {
    b"STAT": (b"STAT", b"+OK 1 "),
    b"LIST": (b"LIST 1", b"+OK 1 "),
    b"UIDL": (b"UIDL 1", b"+OK 1 "),
    b"RETR": (b"RETR 1", b"Subject: then\r\n"),
    b"TOP": (b"TOP 1 1", b"one\r\n"),
    b"NOOP": (b"NOOP", b"+OK "),
    b"RSET": (b"RSET", b"+OK 1 messages"),
    b"CAPA": (b"CAPA", b"UIDL\r\n"),
    b"LANG": (b"LANG", b"+OK "),
    b"QUIT": (b"QUIT", b"+OK Bye"),
}
SEVERAL_LINES = (b"RETR", b"TOP", b"CAPA", b"LANG")
REFUSED = {b"DELE": b"DELE 1"}


def answer(client: Dialogue, command: bytes) -> list[bytes]:
    client.send(command + b"\r\n")
    lines = [client.line()]
    while lines[0].startswith(b"+OK") and command.split()[0] in SEVERAL_LINES and lines[-1] != b".\r\n":
        lines.append(client.line())
    return lines


def test_each_command_is_answered_as_of_then_or_refused(
    cell: Cell, user: str, deliver: Callable[[bytes], None], talk: Callable[..., Dialogue]
) -> None:
    assert set(READS) | set(REFUSED) == LEGAL[State.TRANSACTION]
    deliver(BODY)
    position = cell.log.status().applied
    now = talk(user)
    assert answer(now, b"DELE 1")[0].startswith(b"+OK")
    assert answer(now, b"QUIT")[0].startswith(b"+OK")
    past = talk(f"{user}@@#{position}")
    told = {command: answer(past, command)[0] for command in REFUSED.values()}
    for said in told.values():
        assert said.startswith(b"-ERR [SYS/PERM] ")
        assert b"as of" in said
    wrong = []
    for command, expected in READS.values():
        lines = answer(past, command)
        if not any(line.startswith(expected) for line in lines):
            wrong.append((command, lines))
    assert not wrong
    assert answer(talk(user), b"STAT")[0].startswith(b"+OK 0 ")
