"""What each node holds, read the way a user would: over IMAP, from that node's own tables and bodies.

Messages are hashed as they come, so that a run of any length fits in memory. imaplib is used on purpose: a client that
was written by someone else.
"""

import hashlib
import imaplib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from chaos.messages import identity_in, split_trace

SLICE = 50
TIMEOUT_S = 60.0
TRACE_LINE = re.compile(
    rb"(?:(?:Return-Path|Received|Authentication-Results):[^\r\n]*|[ \t][^\r\n]*)\r\n", re.IGNORECASE
)


class ObservationError(Exception):
    """A node could not be read, which says nothing good about it."""


class Copy(NamedTuple):
    """A stored message: whose attempt, the digest of the client's bytes, whether only trace stands before them."""

    identity: str
    sha256: str
    trace_is_clean: bool


Holdings = Mapping[str, list[Copy]]  # by account
Observed = Mapping[str, Holdings]  # by node


def copy_of(stored: bytes) -> Copy:
    """The copy in a message as it was read."""
    trace, data = split_trace(stored)
    clean = TRACE_LINE.sub(b"", trace) == b""
    return Copy(identity_in(data), hashlib.sha256(data).hexdigest(), clean)


def read_mailbox(endpoint: str, account: str, password: str) -> list[Copy]:
    """All of one account's INBOX as one node has it. Blocking; raises ObservationError."""
    host, _, port = endpoint.rpartition(":")
    try:
        with imaplib.IMAP4(host, int(port), timeout=TIMEOUT_S) as client:
            client.login(account, password)
            status, answer = client.select("INBOX", readonly=True)
            if status != "OK":
                raise ObservationError(f"EXAMINE at {endpoint}: {answer!r}")
            return [copy_of(stored) for stored in _messages(client, int(answer[0] or b"0"))]
    except (OSError, imaplib.IMAP4.error) as error:
        raise ObservationError(f"{account} at {endpoint}: {error}") from error


def _messages(client: imaplib.IMAP4, count: int) -> Iterator[bytes]:
    for first in range(1, count + 1, SLICE):
        last = min(first + SLICE - 1, count)
        status, answer = client.fetch(f"{first}:{last}", "(BODY.PEEK[])")
        bodies = [part[1] for part in answer if isinstance(part, tuple)]
        if status != "OK" or len(bodies) != last - first + 1:
            raise ObservationError(f"FETCH {first}:{last} gave {status} and {len(bodies)} messages")
        yield from bodies
