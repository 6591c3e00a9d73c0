"""What each node holds in the end, read the way a user would: over IMAP, from that node's own tables and bodies.

Messages are hashed as they come, so that a run of any length fits in memory. imaplib is used on purpose: a client that
was written by someone else.
"""

import hashlib
import imaplib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from chaos.history import History, Outcome
from chaos.messages import identity_in, split_trace

SLICE = 50
TIMEOUT_S = 60.0
TRACE_LINE = re.compile(
    rb"(?:(?:Return-Path|Received|Authentication-Results):[^\r\n]*|[ \t][^\r\n]*)\r\n", re.IGNORECASE
)
FETCHED = re.compile(rb"\d+ \((?=.*?UID (\d+))(?=.*?FLAGS \(([^()]*)\)).*")


class ObservationError(Exception):
    """A node could not be read, which says nothing good about it."""


class Copy(NamedTuple):
    """A stored message: whose attempt, the digest of the client's bytes, whether only trace stands before them, where.

    `flags` are sorted and without \\Recent, which nobody can promise.
    """

    identity: str
    sha256: str
    trace_is_clean: bool
    folder: str = "INBOX"
    uidvalidity: int = 0
    uid: int = 0
    flags: tuple[str, ...] = ()


Holdings = Mapping[str, list[Copy]]  # by account
Observed = Mapping[str, Holdings]  # by node


def copy_of(stored: bytes) -> Copy:
    """The copy in a message as it was read."""
    trace, data = split_trace(stored)
    clean = TRACE_LINE.sub(b"", trace) == b""
    return Copy(identity_in(data), hashlib.sha256(data).hexdigest(), clean)


def read_mailbox(endpoint: str, account: str, password: str, folders: Sequence[str] = ("INBOX",)) -> list[Copy]:
    """All that one node has in these folders of one account. Blocking; raises ObservationError."""
    host, _, port = endpoint.rpartition(":")
    try:
        with imaplib.IMAP4(host, int(port), timeout=TIMEOUT_S) as client:
            client.login(account, password)
            return [copy for folder in folders for copy in _read_folder(client, folder)]
    except (OSError, imaplib.IMAP4.error) as error:
        raise ObservationError(f"{account} at {endpoint}: {error}") from error


def _read_folder(client: imaplib.IMAP4, folder: str) -> Iterator[Copy]:
    status, answer = client.select(folder, readonly=True)
    if status != "OK":
        raise ObservationError(f"EXAMINE {folder}: {answer!r}")
    _, told = client.response("UIDVALIDITY")
    uidvalidity = int(told[0]) if told and isinstance(told[0], bytes) else 0
    count = int(answer[0] or b"0")
    for first in range(1, count + 1, SLICE):
        last = min(first + SLICE - 1, count)
        status, parts = client.fetch(f"{first}:{last}", "(UID FLAGS BODY.PEEK[])")
        stored = [part for part in parts if isinstance(part, tuple)]
        if status != "OK" or len(stored) != last - first + 1:
            raise ObservationError(f"FETCH {first}:{last} of {folder} gave {status} and {len(stored)} messages")
        for head, data in stored:
            yield _placed(head, data, folder, uidvalidity)


def _placed(head: bytes, data: bytes, folder: str, uidvalidity: int) -> Copy:
    found = FETCHED.fullmatch(head)
    if found is None:
        raise ObservationError(f"FETCH gave no UID or no FLAGS: {head[:200]!r}")
    flags = tuple(sorted(flag for flag in found[2].decode("ascii").split() if flag != "\\Recent"))
    return copy_of(data)._replace(folder=folder, uidvalidity=uidvalidity, uid=int(found[1]), flags=flags)


def password_in_force(history: History, node: str, endpoint: str, account: str, candidates: Mapping[int, str]) -> None:
    """Tries the passwords at one node, one after another until one opens, and notes each log-in in the history."""
    host, _, port = endpoint.rpartition(":")
    for value, password in candidates.items():
        started = history.begin(f"final-{node}", node, "imap", "log-in", account, value=value)
        try:
            with imaplib.IMAP4(host, int(port), timeout=TIMEOUT_S) as client:
                client.login(account, password)
        except imaplib.IMAP4.error as error:
            history.end(started, Outcome.REFUSED, str(error))
            continue
        except OSError as error:
            raise ObservationError(f"{account} at {endpoint}: {error}") from error
        history.end(started, Outcome.ACKNOWLEDGED, "OK")
        return
