"""Two copies of a mailbox that mbsync keeps alike: folders of Maildir here, IMAP there; written to and read from here.

What is compared is what both have: by folder and Message-ID, the flags and the bytes (less the header field X-TUID,
by which mbsync knows again what it sent before a connection was lost).
"""

import hashlib
import itertools
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.site import need
from tests.nodes.imap.client import RawClient

FLAGS = {"S": "\\Seen", "R": "\\Answered", "F": "\\Flagged", "D": "\\Draft", "T": "\\Deleted"}
APPENDED_AT_ONCE = 50

Flags = frozenset[str]
Held = dict[tuple[str, str], tuple[Flags, str]]  # folder and Message-ID: flags, and the digest of the bytes

_names = itertools.count()

_CONFIG = """\
FSync no
CopyArrivalDate yes

IMAPStore far
Host {host}
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN
Timeout 60

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel both
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
"""


class Message(NamedTuple):
    """One message by its Message-ID, with the flags that it is put down with."""

    id: str
    flags: Flags = frozenset()

    @property
    def data(self) -> bytes:
        """About 1 KiB with line ends as the network has them."""
        head = f"Message-ID: <{self.id}>\r\nFrom: a@elsewhere.test\r\nSubject: {self.id}\r\n"
        return (head + "\r\n" + f"of {self.id}: some text\r\n" * 40).encode()


class Near:
    """The folders of Maildir, and mbsync between them and one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "INBOX").mkdir(parents=True, exist_ok=True)

    def sync(self, endpoint: str, user: str, password: str) -> subprocess.Popen[str]:
        """mbsync of all folders in both directions, under way."""
        host, _, port = endpoint.rpartition(":")
        config = self.folder / "mbsyncrc"
        config.write_text(_CONFIG.format(host=host, port=port, user=user, password=password, folder=self.folder))
        return subprocess.Popen(
            [need("mbsync"), "-c", str(config), "both"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def progress(self) -> int:
        """How many steps mbsync has noted in the journals of the folders that it is at."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.rglob(".mbsyncstate.journal"))

    def add(self, folder: str, messages: Iterable[Message]) -> None:
        for kind in ("cur", "new", "tmp"):
            (self.folder / folder / kind).mkdir(parents=True, exist_ok=True)
        for message in messages:
            letters = "".join(sorted(letter for letter, flag in FLAGS.items() if flag in message.flags))
            path = self.folder / folder / "cur" / f"1700000000.{next(_names)}.here:2,{letters}"
            path.write_bytes(message.data.replace(b"\r\n", b"\n"))

    def files(self, folder: str) -> dict[str, Path]:
        """By Message-ID."""
        found = [path for kind in ("cur", "new") for path in (self.folder / folder / kind).iterdir()]
        return {_id_of(path.read_bytes()): path for path in found}

    def mark(self, folder: str, ids: Iterable[str], letter: str) -> None:
        files = self.files(folder)
        for one in ids:
            path = files[one]
            name, _, letters = path.name.partition(":2,")
            path.rename(path.parent.parent / "cur" / f"{name}:2,{''.join(sorted({*letters, letter}))}")

    def held(self) -> tuple[Held, Counter[tuple[str, str]]]:
        """What is here, and how often each."""
        held: Held = {}
        counted: Counter[tuple[str, str]] = Counter()
        for path in self.folder.rglob("*"):
            if path.parent.name in ("cur", "new") and path.is_file():
                data = path.read_bytes()
                key = (str(path.parent.parent.relative_to(self.folder)), _id_of(data))
                letters = path.name.partition(":2,")[2]
                held[key] = frozenset(FLAGS[letter] for letter in letters), _digest(data)
                counted[key] += 1
        return held, counted

    def folders(self) -> set[str]:
        return {str(path.parent.relative_to(self.folder)) for path in self.folder.rglob("cur")}


class Far:
    """The account at one node, by a client of its own."""

    def __init__(self, endpoint: str, user: str, password: str) -> None:
        self.client = RawClient(int(endpoint.rpartition(":")[2]))
        self.client.ok(f'LOGIN {user} "{password}"')

    def __enter__(self) -> "Far":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def folders(self) -> set[str]:
        lines = self.client.ok('LIST "" *')
        return {line.partition(b' "/" ')[2].decode().strip('"') for line in lines if b"\\Noselect" not in line}

    def add(self, folder: str, messages: Iterable[Message]) -> None:
        """Several messages with one command (RFC 3502)."""
        if folder not in self.folders():
            self.client.ok(f'CREATE "{folder}"')
        left = list(messages)
        while left:
            group, left = left[:APPENDED_AT_ONCE], left[APPENDED_AT_ONCE:]
            parts = [f" ({' '.join(sorted(one.flags))}) {{{len(one.data)}+}}\r\n".encode() + one.data for one in group]
            self.client.ok(f'APPEND "{folder}"'.encode() + b"".join(parts))

    def uids(self, folder: str) -> dict[str, int]:
        """By Message-ID."""
        return {one: uid for uid, (one, _, _) in self._messages(folder, with_text=False).items()}

    def mark(self, folder: str, ids: Iterable[str], flag: str) -> None:
        known = self.uids(folder)
        self.client.ok(f'SELECT "{folder}"')
        self.client.ok(f"UID STORE {','.join(str(known[one]) for one in ids)} +FLAGS.SILENT ({flag})")

    def expunge(self, folder: str, ids: Iterable[str]) -> None:
        self.mark(folder, ids, "\\Deleted")
        self.client.ok("EXPUNGE")

    def held(self) -> tuple[Held, Counter[tuple[str, str]], dict[tuple[str, int, int], str]]:
        """What is there, how often each, and which message each UID (with its UIDVALIDITY) stands for."""
        held: Held = {}
        counted: Counter[tuple[str, str]] = Counter()
        by_uid: dict[tuple[str, int, int], str] = {}
        for folder in self.folders():
            for uid, (one, flags, digest) in self._messages(folder, with_text=True).items():
                held[folder, one] = flags, digest
                counted[folder, one] += 1
                by_uid[folder, self._validity, uid] = one
        return held, counted, by_uid

    def _messages(self, folder: str, with_text: bool) -> dict[int, tuple[str, Flags, str]]:
        selected = b" ".join(self.client.ok(f'EXAMINE "{folder}"'))
        self._validity = int(_found(rb"UIDVALIDITY (\d+)", selected))
        if b"* 0 EXISTS" in selected:
            return {}
        text = "BODY.PEEK[]" if with_text else "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"
        found: dict[int, tuple[str, Flags, str]] = {}
        for line in self.client.ok(f"FETCH 1:* (UID FLAGS {text})"):
            if b" FETCH (" in line.split(b"\r\n", 1)[0]:
                head, _, data = line.partition(b"}\r\n")
                flags = frozenset(_found(rb"FLAGS \(([^)]*)\)", head).decode().split()) - {"\\Recent"}
                uid = int(_found(rb"UID (\d+)", head))
                found[uid] = _id_of(data), flags, _digest(data[: int(_found(rb"\{(\d+)$", head))])
        return found


def _found(pattern: bytes, text: bytes) -> bytes:
    match = re.search(pattern, text)
    assert match, (pattern, text[:500])
    return match[1]


def _id_of(data: bytes) -> str:
    return _found(rb"Message-ID: <([^>]*)>", data).decode()


def _digest(data: bytes) -> str:
    lines = [line for line in data.replace(b"\r\n", b"\n").split(b"\n") if not line.startswith(b"X-TUID: ")]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()
