"""A mailbox as JSON text: folders, UIDs, flags and digests, never what a message says.

A large mailbox is a hundred thousand messages, so the text is made by hand, in pieces.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from functools import lru_cache

from actors import mailbox
from actors.redaction import is_redacted
from eventlog.views import View

SLICE = 500
_REDACTED = ', "redacted": true'
_encode = json.JSONEncoder().encode


def mailbox_json(view: View) -> Iterator[str]:
    """{"folders": [...]} in pieces of at most SLICE messages."""
    yield '{"folders": ['
    for number, folder in enumerate(mailbox.folders(view)):
        if number:
            yield ", "
        yield from _folder_json(view, folder)
    yield "]}"


def _folder_json(view: View, folder: mailbox.Folder) -> Iterator[str]:
    counters = mailbox.counters(view, folder.id)
    head = {
        "name": folder.name,
        "uidvalidity": folder.uidvalidity,
        "uidnext": counters.uidnext,
        "highestmodseq": counters.highestmodseq,
    }
    yield f'{_encode(head)[:-1]}, "messages": ['
    messages = mailbox.messages(view, folder.id)
    separator = ""
    while some := [_message_json(message) for message in itertools.islice(messages, SLICE)]:
        yield separator + ", ".join(some)
        separator = ", "
    yield "]}"


def _message_json(message: mailbox.Message) -> str:
    seconds, milliseconds = divmod(message.internaldate_ms, 1000)
    return (
        f'{{"uid": {message.uid}, "flags": {_flags_json(message.flags)}, "size": {message.size}, '
        f'"sha256": "{message.digest.hex()}", "internaldate": "{_to_the_second(seconds)}.{milliseconds:03}Z"'
        f"{_REDACTED if is_redacted(message.digest) else ''}}}"
    )


@lru_cache(4096)
def _flags_json(flags: tuple[str, ...]) -> str:
    return _encode(flags)


@lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    # mail comes in bursts: of a hundred thousand messages, many share their second
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
