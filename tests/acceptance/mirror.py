"""A client that believes what it is told: its copy of a mailbox, kept and checked by untagged responses alone."""

import re
import ssl

from tests.nodes.imap.client import RawClient

_FETCH = re.compile(rb"\* (\d+) FETCH \((.*)\)\Z", re.S)
_CODE = re.compile(rb"\[HIGHESTMODSEQ (\d+)\]")

Flags = frozenset[bytes]


class Mirror:
    """`messages` holds the UID behind each number, None for one that was never asked for; `flags` what is known by UID.

    With `qresync` it comes back with what it kept; without, it starts afresh.
    """

    def __init__(self, endpoint: str, tls: ssl.SSLContext, login: str, password: str, qresync: bool) -> None:
        self._where = endpoint, tls, login, password
        self.qresync = qresync
        self.messages: list[int | None] = []
        self.flags: dict[int, Flags] = {}
        self._validity = self._modseq = 0
        self._connect()

    def _connect(self) -> None:
        endpoint, tls, login, password = self._where
        self.client = RawClient(int(endpoint.rpartition(":")[2]), tls)
        self.client.ok(f'LOGIN {login} "{password}"')
        if self.qresync:
            self.client.ok("ENABLE QRESYNC")

    def select(self, name: str) -> None:
        """SELECT, then what a client asks for that has nothing, or not all."""
        resumed = self.qresync and self._validity != 0
        parameters = f" (QRESYNC ({self._validity} {self._modseq}))" if resumed else ""
        lines = self.client.ok(f"SELECT {name}{parameters}")
        self._validity = _number(rb"\[UIDVALIDITY (\d+)\]", lines)
        self._modseq = _number(_CODE.pattern, lines)
        self.messages = [None] * _number(rb"\* (\d+) EXISTS", lines)
        kept, self.flags = (self.flags, {}) if resumed else ({}, {})
        gone = {uid for line in lines if b" VANISHED (EARLIER) " in line for uid in _uids(line.split()[-1])}
        self.flags = {uid: flags for uid, flags in kept.items() if uid not in gone}
        numbered = [line for line in lines if _FETCH.match(line)]
        for line in numbered:
            self._hear_fetch(line)
        if resumed:
            # What it kept and what it was told is all that there is: numbers follow from that.
            assert len(self.flags) == len(self.messages), (sorted(self.flags), lines)
            self.messages = [*sorted(self.flags)]
        else:
            self.learn()

    def leave(self) -> None:
        self.client.close()
        self._connect()

    def do(self, command: str | bytes) -> bytes:
        """Carries out a command, believes what comes, and gives the tagged reply."""
        words = command.encode() if isinstance(command, str) else command
        by_number = words.split()[0] in (b"FETCH", b"STORE", b"SEARCH")
        *lines, reply = self.client.command(words)
        seen = self._modseq
        for line in lines:
            seen = max(seen, self._hear(line, by_number))
        found = _CODE.search(reply)
        self._modseq = int(found[1]) if found else seen
        if self.qresync and words.split()[0] != b"FETCH":
            self.learn()  # who is told of what went by UID must know which UID stands where
        return reply

    def learn(self) -> None:
        """Asks for what it knows nothing of."""
        while None in self.messages:
            first = self.messages.index(None) + 1
            self.do(f"FETCH {first}:{len(self.messages)} (UID FLAGS MODSEQ)")

    def _hear(self, line: bytes, by_number: bool) -> int:
        """One response; gives the MODSEQ in it."""
        words = line.split()
        if words[2:3] == [b"EXPUNGE"]:
            assert not by_number, line
            assert not self.qresync, line
            self._forget(int(words[1]))
        elif words[1] == b"VANISHED":
            assert not by_number, line
            assert self.qresync, line
            for uid in _uids(words[2]):
                self._forget(self.messages.index(uid) + 1)
        elif words[2:3] == [b"EXISTS"]:
            assert int(words[1]) >= len(self.messages), line
            self.messages += [None] * (int(words[1]) - len(self.messages))
        elif _FETCH.match(line):
            return self._hear_fetch(line)
        return 0

    def _forget(self, number: int) -> None:
        uid = self.messages.pop(number - 1)
        if uid is not None:
            self.flags.pop(uid, None)

    def _hear_fetch(self, line: bytes) -> int:
        found = _FETCH.match(line)
        assert found
        number = int(found[1])
        told = re.search(rb"UID (\d+)", found[2])
        known = self.messages[number - 1]
        if told is not None:
            assert known in (None, int(told[1])), f"{line!r}: {number} was {known}"
            self.messages[number - 1] = known = int(told[1])
        flags = re.search(rb"FLAGS \(([^)]*)\)", found[2])
        if flags is not None and known is not None:
            self.flags[known] = frozenset(flags[1].split()) - {b"\\Recent"}
        modseq = re.search(rb"MODSEQ \((\d+)\)", found[2])
        return int(modseq[1]) if modseq else 0


def _number(pattern: bytes, lines: list[bytes]) -> int:
    found = [match for line in lines if (match := re.search(pattern, line))]
    assert found, (pattern, lines)
    return int(found[-1][1])


def _uids(text: bytes) -> list[int]:
    uids: list[int] = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        uids += range(int(first), int(last or first) + 1)
    return uids
