"""Reading the FETCH items BINARY (RFC 3516) and PREVIEW (RFC 8970)."""

from nodes.imap.content_commands import Binary, Preview
from nodes.imap.cursor import Cursor
from nodes.imap.section_grammar import part_numbers, read_partial

_BINARY = (  # token, peek, size_only
    (b"BINARY.SIZE[", True, True),
    (b"BINARY.PEEK[", True, False),
    (b"BINARY[", False, False),
)


def content_item(cursor: Cursor) -> Binary | Preview | None:
    """The item that comes next; None where it is none of these."""
    for token, peek, size_only in _BINARY:
        if cursor.accept(token):
            numbers = part_numbers(cursor)
            cursor.expect(b"]")
            return Binary(numbers, None if size_only else read_partial(cursor), peek, size_only)
    if cursor.accept(b"PREVIEW"):
        return Preview(lazy=cursor.accept(b" (LAZY)"))
    return None
