"""The messages of a workload: each made from a seed and a number alone, so that a checker can make it again.

The first header names the attempt; what a server puts in front of it is its trace. Bodies hold what breaks careless
servers: lines that start with dots, bytes above 127, long lines, and sizes past the limit at which bodies are split.
"""

import base64
import hashlib
from random import Random
from typing import NamedTuple

IDENTITY_HEADER = "X-Attempt"
TRICKY = b".\r\n..\r\n.leading dot\r\n\xc3\xa6\xf8\xe5 eight bits\r\n\r\nFrom here on\r\n \t\r\n" + b"x" * 900 + b"\r\n"
KIB = 1024


class Message(NamedTuple):
    """One message as the client sends it, before dot-stuffing."""

    identity: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def size_of(rng: Random) -> int:
    """Mostly small; one in eight up to 128 KiB; one in sixty-four between 256 KiB and 1 MiB, sent in chunks inside."""
    roll = rng.randrange(64)
    if roll == 0:
        return rng.randrange(256 * KIB, 1024 * KIB)
    if roll <= 8:
        return rng.randrange(16 * KIB, 128 * KIB)
    return rng.randrange(256, 16 * KIB)


def make_message(seed: int, number: int, accounts: tuple[str, ...], size_bytes: int | None = None) -> Message:
    """Message `number` of the workload with this seed, to one to three of the accounts, of about that size if given."""
    rng = Random(f"{seed}:{number}")
    identity = f"{seed}-{number}-{rng.getrandbits(64):016x}"
    recipients = tuple(rng.sample(accounts, k=min(len(accounts), rng.choice((1, 1, 1, 2, 3)))))
    sender = f"sender{number % 10}@workload.test"
    head = (
        f"{IDENTITY_HEADER}: {identity}\r\nFrom: <{sender}>\r\nTo: {', '.join(recipients)}\r\n"
        f"Subject: attempt {number}\r\nMessage-ID: <{identity}@workload.test>\r\n\r\n"
    )
    filler = base64.encodebytes(rng.randbytes((size_bytes or size_of(rng)) * 3 // 4)).replace(b"\n", b"\r\n")
    return Message(identity, sender, recipients, head.encode() + TRICKY + filler)


def dot_stuffed(data: bytes) -> bytes:
    """The bytes after DATA: lines that start with a dot get one more, and the final dot (RFC 5321 4.5.2)."""
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"


def split_trace(stored: bytes) -> tuple[bytes, bytes]:
    """(what the server put in front, the client's bytes) of a stored message; no identity: (all of it, nothing)."""
    marker = IDENTITY_HEADER.encode() + b": "
    if stored.startswith(marker):
        return b"", stored
    trace, found, rest = stored.partition(b"\r\n" + marker)
    return (trace + b"\r\n", marker + rest) if found else (stored, b"")


def identity_in(data: bytes) -> str:
    """The attempt that a message belongs to, from its first header; an empty text if it names none."""
    prefix = IDENTITY_HEADER.encode() + b": "
    line = data.split(b"\r\n", 1)[0]
    return line.removeprefix(prefix).decode("ascii", "replace") if line.startswith(prefix) else ""
