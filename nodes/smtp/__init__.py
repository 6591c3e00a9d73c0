"""SMTP and LMTP front end: mail from other servers, submission by our own users, delivery from a server in front.

`start` opens one listener. Syntax, states and content are pure (grammar, states, content); connection.py moves bytes
on aiosmtpd's protocol class; intake.py asks the actors.
"""

from nodes.smtp.server import start

__all__ = ["start"]
