"""What the SMTP server says: every reply with its enhanced status code (RFC 2034, RFC 3463), ready as bytes.

An error knows the reply that it becomes (`Refused`), so the code that finds a fault never writes to a connection.
Texts never repeat what a client sent.
"""

from __future__ import annotations


def reply(code: int, enhanced: str, *lines: str) -> bytes:
    """A reply in wire form, one line for each text; `enhanced` is repeated on each line (RFC 2034 4)."""
    last = len(lines) - 1
    prefix = f"{enhanced} " if enhanced else ""
    texts = (f"{code}{'-' if n < last else ' '}{prefix}{line}\r\n" for n, line in enumerate(lines))
    return "".join(texts).encode("utf-8")


class Refused(Exception):
    """A command that gets this reply instead of what it asked for."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply.decode("utf-8", "replace").strip())
        self.reply = reply


OK = reply(250, "2.0.0", "Ok")
SENDER_OK = reply(250, "2.1.0", "Ok")
RECIPIENT_OK = reply(250, "2.1.5", "Ok")
GO_AHEAD = reply(354, "", "End data with <CR><LF>.<CR><LF>")
BYE = reply(221, "2.0.0", "Bye")
GO_AHEAD_WITH_TLS = reply(220, "2.0.0", "Ready to start TLS")
CANNOT_VRFY = reply(252, "2.1.5", "Not verified; send mail and its delivery will be attempted")
LOGGED_IN = reply(235, "2.7.0", "Authentication successful")

TIMED_OUT = reply(421, "4.4.2", "No command came in time, closing the connection")
STOPPING = reply(421, "4.3.2", "The server is stopping, try again or use another one")
TOO_MANY_CONNECTIONS = reply(421, "4.7.0", "Too many connections, try again later")
TOO_MANY_COMMANDS = reply(421, "4.7.0", "Too many commands without mail, closing the connection")
TOO_MANY_MESSAGES = reply(421, "4.5.3", "Enough messages for one session, open another one")
CLOSING = reply(421, "4.7.0", "Closing the connection")
TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors, closing the connection")
NOT_SMTP = reply(421, "4.7.0", "This is not HTTP, closing the connection")
NOT_NOW = reply(421, "4.3.0", "Mail can not be taken at the moment, try again later")

OUTCOME_UNKNOWN = reply(451, "4.4.0", "The outcome is unknown: the message may have been accepted; try again")
NOT_ACCEPTED = reply(451, "4.3.0", "The message was not accepted, try again later")
STOPPING_WRITES = reply(451, "4.3.2", "The server is stopping, try again or use another one")
NO_LEADER = reply(451, "4.3.2", "The cell has no leader at the moment, try again later")
INTERNAL_ERROR = reply(451, "4.3.0", "Internal error, try again later")
RECIPIENT_GONE = reply(451, "4.2.1", "A mailbox has just been closed, send the message again")
MAILBOX_FULL = reply(452, "4.2.2", "The mailbox is full")
DISK_FULL = reply(452, "4.3.1", "Not enough storage, try again later")
TOO_MUCH_AT_ONCE = reply(452, "4.3.1", "Too much mail is arriving at once, try again later")
REPLICA = reply(
    451, "4.3.2", "This cell has only a replica of that mailbox and takes no mail for it: send it to its home"
)
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients, send the rest in another transaction")
TLS_NOT_AVAILABLE = reply(454, "4.7.0", "TLS is not available")
AUTH_LATER = reply(454, "4.7.0", "Temporary authentication failure, try again later")

BARE_END_OF_COMMAND = reply(500, "5.5.2", "A command ends with <CR><LF> and holds no other CR or LF")
LINE_TOO_LONG = reply(500, "5.5.2", "Line too long")
NOT_RECOGNISED = reply(500, "5.5.1", "Command not recognised")
HELD_TOO_LONG = reply(501, "5.5.4", "Messages are not held as long as that; EHLO says how long")
BAD_SYNTAX = reply(501, "5.5.4", "Bad syntax in the argument")
NO_ARGUMENT = reply(501, "5.5.4", "This command takes no argument")
NEED_HOST = reply(501, "5.5.4", "Give a host name or address literal")
NOT_BASE64 = reply(501, "5.5.2", "That is not base64")
BAD_AUTH_RESPONSE = reply(501, "5.5.2", "That is not a response of this mechanism")
AUTH_ABORTED = reply(501, "5.7.0", "Authentication cancelled")
NOT_IMPLEMENTED = reply(502, "5.5.1", "Command not implemented")
NEED_GREETING = reply(503, "5.5.1", "Send EHLO first (LHLO in LMTP)")
NEED_MAIL = reply(503, "5.5.1", "Send MAIL first")
BAD_CHUNK = reply(501, "5.5.4", "Syntax: BDAT size [LAST]; without it the end of the chunk can not be found")
MESSAGE_LOST = reply(503, "5.5.1", "A chunk of this message was refused, send RSET")
CHUNKS_BEGUN = reply(503, "5.5.1", "The message has begun with BDAT, which alone can go on with it")
BINARY_NEEDS_CHUNKS = reply(503, "5.5.1", "BODY=BINARYMIME goes by BDAT only")
NEED_RECIPIENT = reply(503, "5.5.1", "No valid recipient, send RCPT first")
NESTED_MAIL = reply(503, "5.5.1", "A sender was given already, send RSET first")
IN_TRANSACTION = reply(503, "5.5.1", "Not during a mail transaction")
ALREADY_TLS = reply(503, "5.5.1", "TLS is active already")
ALREADY_AUTHENTICATED = reply(503, "5.5.1", "Authenticated already")
UNKNOWN_MECHANISM = reply(504, "5.5.4", "Authentication mechanism not supported")
AUTH_REQUIRED = reply(530, "5.7.0", "Authentication required")
AUTH_FAILED = reply(535, "5.7.8", "Authentication credentials invalid")
TLS_REQUIRED = reply(538, "5.7.11", "Encryption required, send STARTTLS first")
ACCOUNT_CLOSED_NOW = reply(450, "4.2.1", "The mailbox takes no mail now, try again later")  # RFC 3463 3.3
ACCOUNT_CLOSED = reply(550, "5.2.1", "The mailbox takes no mail")
NO_SUCH_MAILBOX = reply(550, "5.1.1", "There is no such mailbox here")
ALIAS_TOO_WIDE = reply(550, "5.4.6", "The alias leads too far or to too many mailboxes")
RELAYING_DENIED = reply(550, "5.7.1", "Relaying denied")
NOT_ROUTABLE = reply(550, "5.1.2", "Mail can not be sent to that domain")
BARE_LINE_END = reply(550, "5.6.0", "A bare CR or LF stands in the message: lines end with <CR><LF>")
NUL_OCTET = reply(550, "5.6.0", "A NUL octet stands in the message: send it as BODY=BINARYMIME, or encoded")
CONTENT_LINE_TOO_LONG = reply(550, "5.6.0", "A line of the message is over 998 octets")
EIGHT_BIT_HEADER = reply(550, "5.6.7", "A header field is not ASCII: that needs the SMTPUTF8 parameter of MAIL")
AMBIGUOUS_END = reply(550, "5.6.0", "A lone dot stands beside a bare CR or LF: only <CR><LF>.<CR><LF> ends data")
HEADER_TOO_BIG = reply(552, "5.3.4", "The header of the message is over the size limit")
TOO_BIG = reply(552, "5.3.4", "The message is over the size limit")
BAD_SENDER = reply(553, "5.1.7", "Malformed sender address")
BAD_RECIPIENT = reply(553, "5.1.3", "Malformed recipient address")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "A non-ASCII address needs the SMTPUTF8 parameter of MAIL")
HOME_ELSEWHERE = reply(
    550, "5.7.1", "This cell has only a replica of your account: send mail through the cell that is its home"
)
NOT_YOUR_ADDRESS = reply(553, "5.7.1", "This sender address does not belong to your account")
NOT_TRUSTED = reply(550, "5.7.0", "You are not trusted to speak for others")
TOO_MANY_FIELDS = reply(554, "5.6.0", "The message has too many header fields")
MAIL_LOOP = reply(554, "5.4.6", "Too many Received lines: this is a mail loop")
NOT_FORWARDED = reply(
    550, "5.7.1", "A recipient forwards its mail elsewhere, and this is quarantined or its author not proved (DMARC)"
)
EARLY_TALKER = reply(554, "5.5.1", "You spoke before the greeting (RFC 5321 4.3.1), closing the connection")
UNKNOWN_PARAMETER = reply(555, "5.5.4", "Parameter not recognised or not implemented")


def queued(message_id: bytes) -> bytes:
    """The message is committed on a majority, under this id."""
    return b"250 2.0.0 Ok: queued as %b\r\n" % message_id.hex().encode("ascii")


def suspended_login(why: str) -> bytes:
    """The credentials were right; `why` they help nothing (RFC 5248: account disabled)."""
    return reply(535, "5.7.13", why.capitalize())


def limited_login(why: str) -> bytes:
    """The credentials were right; `why` says which limit is reached."""
    return reply(454, "4.7.0", why.capitalize())


def put_out(why: str) -> bytes:
    """Whom the session belongs to is not served any more."""
    return reply(421, "4.7.13", why.capitalize())


def may_not_send(why: str) -> bytes:
    """The same, of a message that was under way."""
    return reply(550, "5.7.13", why.capitalize())


def tenant_inactive(why: str, *, refuse: bool, recipient: bool) -> bytes:
    """Mail for, or of, a tenant that is not served: put off, or refused for good."""
    code = "2.1" if recipient else "7.13"
    return reply(550, f"5.{code}", why.capitalize()) if refuse else reply(450, f"4.{code}", why.capitalize())


def over_quota(quota: str, why: str) -> bytes:
    """A quota of the tenant is used up: for what is kept (RFC 5248: mailbox full), or for what is sent."""
    return reply(452, "4.7.0" if "sending" in quota else "4.2.2", why.capitalize())


def verified(address: str) -> bytes:
    """Mail for this address is taken."""
    return b"250 2.1.5 <%b>\r\n" % address.encode()


def chunk_taken(size_bytes: int) -> bytes:
    """A chunk has come whole; the message has not."""
    return b"250 2.0.0 %d octets received\r\n" % size_bytes
