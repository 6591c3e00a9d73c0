"""POP3 front end (RFC 1939, 2449, 2595, 3206, 5034): every command but APOP.

`start` opens one listener. session.py is the protocol without I/O, over states.py; connection.py performs what it
asks for.
"""

from nodes.pop3.server import start

__all__ = ["start"]
