"""Ids that outlive names and UIDs (RFC 8474): of mailboxes, of messages wherever they are copied, of threads.

A thread is known by the message that its members say it began with, so two messages have the same id on every node and
in every folder without any table. It is read from the message: what of its header stands in events may be erased.
"""

from hashlib import sha256

from nodes.mime import header

_ID_BYTES = 16


def mailbox_id(folder_id: bytes) -> bytes:
    return b"F" + folder_id.hex().encode("ascii")


def email_id(message_id: bytes) -> bytes:
    return b"M" + message_id.hex().encode("ascii")


def thread_id(data: bytes) -> bytes | None:
    """That of a message's bytes; None (NIL) for one that names no message, itself neither."""
    found = header.fields(data, 0, header.header_end(data, 0, len(data)))
    for name in (b"references", b"in-reply-to", b"message-id"):
        value = header.first(data, found, name)
        start = -1 if value is None else value.find(b"<")
        if value is not None and start >= 0 and (end := value.find(b">", start)) > start + 1:
            return b"T" + sha256(value[start : end + 1]).hexdigest()[: 2 * _ID_BYTES].encode("ascii")
    return None
