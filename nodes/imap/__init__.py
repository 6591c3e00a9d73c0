"""The IMAP4rev1 front end (RFC 3501), for the node's `imap` and `imaps` listeners."""

from nodes.imap.server import start

__all__ = ["start"]
