"""Dovecot beside us: its imap program on a folder of its own, and answers of both made alike as values.

Dovecot's imap runs by itself, without its daemon, over its standard input and output. Answers are read to values, so
that a literal, a quoted string and an atom of the same bytes are the same; what differs by nature is put away. What
still differs is told in docs/dovecot.md, row by row, and the tests hold that table to be complete and true.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from tests.nodes.imap.client import RawClient

IMAP = Path("/usr/lib/dovecot/imap")
TABLE = Path(__file__).resolve().parents[3] / "docs" / "dovecot.md"
NOBODY = 65534
SHOWN = 80

CONFIG = """\
log_path = {folder}/log
mail_location = maildir:{folder}/mail
ssl = no
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
namespace inbox {{
  inbox = yes
  separator = /
}}
"""


class Stdio(RawClient):
    """A client of a server that speaks over its standard input and output."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd="/"
        )
        self._file = cast("IO[bytes]", self.process.stdout)  # type: ignore[assignment]
        self.tags = 0
        self.greeting = self.response()

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)
        self._file.close()


def dovecot_sessions() -> Iterator[Callable[[], RawClient]]:
    """Makes sessions on one empty mailbox of Dovecot's; ends them and forgets the mailbox after."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-dovecot-"))  # pytest's own folders are for its user alone
    uid, gid = (NOBODY, NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())
    (folder / "mail").mkdir()
    (folder / "conf").write_text(CONFIG.format(folder=folder, uid=uid, gid=gid))
    if os.getuid() == 0:
        for path in (folder, folder / "mail", folder / "conf"):
            os.chown(path, uid, gid)
    made: list[Stdio] = []

    def make() -> RawClient:
        made.append(Stdio([str(IMAP), "-c", str(folder / "conf")], {"USER": "u", "HOME": str(folder)}))
        return made[-1]

    yield make
    for client in made:
        client.close()
    shutil.rmtree(folder)


Value = bytes | None | list["Value"]

_ATOM = re.compile(rb"(?:[^\s()\[\]\"{]|\[[^]]*\])+")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LITERAL = re.compile(rb"~?\{(\d+)\}\r\n")


def values(line: bytes) -> list[Value]:
    """A response as nested lists of what its atoms and strings say; NIL is None."""
    stack: list[list[Value]] = [[]]
    at = 0
    while at < len(line):
        if line[at : at + 1] == b"(":
            stack.append([])
        elif line[at : at + 1] == b")":
            done = stack.pop()
            stack[-1].append(done)
        elif literal := _LITERAL.match(line, at):
            at = literal.end() + int(literal[1])
            stack[-1].append(line[literal.end() : at])
            continue
        elif quoted := _QUOTED.match(line, at):
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted[1]))
            at = quoted.end()
            continue
        elif atom := _ATOM.match(line, at):
            stack[-1].append(None if atom[0].upper() == b"NIL" else atom[0])
            at = atom.end()
            continue
        at += 1
    assert len(stack) == 1, line
    return stack[0]


def fetched(line: bytes) -> dict[str, Value]:
    """The items of a FETCH response by name."""
    _, _, _, items = values(line)
    assert isinstance(items, list)
    return {cast("bytes", name).decode(): value for name, value in zip(items[::2], items[1::2], strict=True)}


class Difference(NamedTuple):
    """One row of the table: what was asked, what each answered; long answers are cut."""

    command: str
    ours: str
    theirs: str


def differences(command: str, ours: Value, theirs: Value) -> Iterator[Difference]:
    """What differs between two values, as near to the leaves as it goes."""
    if ours == theirs:
        return
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) == len(theirs):
            for one, other in zip(ours, theirs, strict=True):
                yield from differences(command, one, other)
            return
        ours, theirs = _unlike(ours, theirs)
    yield Difference(command, shown(ours), shown(theirs))


def _unlike(ours: list[Value], theirs: list[Value]) -> tuple[list[Value], list[Value]]:
    """Without what both begin and end with."""
    while ours and theirs and ours[0] == theirs[0]:
        ours, theirs = ours[1:], theirs[1:]
    while ours and theirs and ours[-1] == theirs[-1]:
        ours, theirs = ours[:-1], theirs[:-1]
    return ours, theirs


def shown(value: Value) -> str:
    """A value as the table has it."""
    if isinstance(value, list):
        return "(" + " ".join(map(shown, value)) + ")"
    if value is None:
        return "NIL"
    text = repr(value)[2:-1].replace("|", "\\x7c").replace("`", "\\x60")
    return '"' + (text if len(text) <= SHOWN else text[: SHOWN // 2] + "…" + text[-SHOWN // 2 :]) + '"'


def explained(section: str) -> set[Difference]:
    """The rows of the table under a heading of docs/dovecot.md."""
    _, _, text = TABLE.read_text().partition(f"\n## {section}\n")
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \| \S.* \|$", text.partition("\n## ")[0], re.MULTILINE)
    return {Difference(*row) for row in rows}


def hold_against_the_table(section: str, found: set[Difference]) -> None:
    """No difference that is not explained, no explanation of what does not differ."""
    told = explained(section)
    assert sorted(found - told) == [], "these differences are not explained"
    assert sorted(told - found) == [], "these explanations explain nothing"
