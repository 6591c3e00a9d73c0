"""What the SMTP server says: every reply with its enhanced status code (RFC 2034, RFC 3463), ready as bytes.

An error knows the reply that it becomes (`Refused`), so the code that finds a fault never writes to a connection.
Texts never repeat what a client sent.
"""

from __future__ import annotations


class Reply(bytes):
    """A reply in wire form; `error` is the kind of error (nodes/errors) that it tells of, "" for none."""

    error = ""

    def telling(self, error: str) -> Reply:
        """The same words for another kind of error."""
        other = Reply(self)
        other.error = error
        return other


def reply(code: int, enhanced: str, *lines: str, error: str = "") -> Reply:
    """A reply, one line for each text; `enhanced` is repeated on each line (RFC 2034 4)."""
    last = len(lines) - 1
    prefix = f"{enhanced} " if enhanced else ""
    texts = (f"{code}{'-' if n < last else ' '}{prefix}{line}\r\n" for n, line in enumerate(lines))
    return Reply("".join(texts).encode("utf-8")).telling(error)


def error_of(one: bytes) -> str:
    """The kind of error that a reply tells of; "" for a reply that refuses nothing."""
    if one[:1] not in (b"4", b"5"):
        return ""
    if isinstance(one, Reply) and one.error:
        return one.error
    first = bytes(one[: one.find(b"\n") + 1])  # of several that were put together
    return _BY_TEXT.get(first) or ("refused" if one[:1] == b"5" else "not_accepted")


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

TIMED_OUT = reply(421, "4.4.2", "No command came in time, closing the connection", error="timed_out")
STOPPING = reply(421, "4.3.2", "The server is stopping, try again or use another one", error="stopping")
TOO_MANY_CONNECTIONS = reply(421, "4.7.0", "Too many connections, try again later", error="too_many_connections")
TOO_MANY_COMMANDS = reply(
    421, "4.7.0", "Too many commands without mail, closing the connection", error="too_many_commands"
)
TOO_MANY_MESSAGES = reply(421, "4.5.3", "Enough messages for one session, open another one", error="too_many_messages")
CLOSING = reply(421, "4.7.0", "Closing the connection", error="too_many_errors")
TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors, closing the connection", error="too_many_errors")
NOT_SMTP = reply(421, "4.7.0", "This is not HTTP, closing the connection", error="not_http")
NOT_NOW = reply(421, "4.3.0", "Mail can not be taken at the moment, try again later", error="check_failed")

OUTCOME_UNKNOWN = reply(
    451, "4.4.0", "The outcome is unknown: the message may have been accepted; try again", error="outcome_unknown"
)
NOT_ACCEPTED = reply(451, "4.3.0", "The message was not accepted, try again later", error="not_accepted")
STOPPING_WRITES = reply(451, "4.3.2", "The server is stopping, try again or use another one", error="stopping")
NO_LEADER = reply(451, "4.3.2", "The cell has no leader at the moment, try again later", error="no_leader")
INTERNAL_ERROR = reply(451, "4.3.0", "Internal error, try again later", error="internal")
RECIPIENT_GONE = reply(451, "4.2.1", "A mailbox has just been closed, send the message again", error="no_such_account")
MAILBOX_FULL = reply(452, "4.2.2", "The mailbox is full", error="over_quota")
DISK_FULL = reply(452, "4.3.1", "Not enough storage, try again later", error="disk_full")
TOO_MUCH_AT_ONCE = reply(452, "4.3.1", "Too much mail is arriving at once, try again later", error="too_much_mail")
REPLICA = reply(
    451,
    "4.3.2",
    "This cell has only a replica of that mailbox and takes no mail for it: send it to its home",
    error="is_replica",
)
TOO_MANY_RECIPIENTS = reply(
    452, "4.5.3", "Too many recipients, send the rest in another transaction", error="too_many_recipients"
)
TLS_NOT_AVAILABLE = reply(454, "4.7.0", "TLS is not available", error="certificate_unusable")
AUTH_LATER = reply(454, "4.7.0", "Temporary authentication failure, try again later", error="overloaded")

BARE_END_OF_COMMAND = reply(
    500, "5.5.2", "A command ends with <CR><LF> and holds no other CR or LF", error="bad_command"
)
LINE_TOO_LONG = reply(500, "5.5.2", "Line too long", error="line_too_long")
NOT_RECOGNISED = reply(500, "5.5.1", "Command not recognised", error="bad_command")
HELD_TOO_LONG = reply(501, "5.5.4", "Messages are not held as long as that; EHLO says how long", error="bad_command")
BAD_SYNTAX = reply(501, "5.5.4", "Bad syntax in the argument", error="bad_command")
NO_ARGUMENT = reply(501, "5.5.4", "This command takes no argument", error="bad_command")
NEED_HOST = reply(501, "5.5.4", "Give a host name or address literal", error="bad_command")
NOT_BASE64 = reply(501, "5.5.2", "That is not base64", error="malformed_response")
BAD_AUTH_RESPONSE = reply(501, "5.5.2", "That is not a response of this mechanism", error="malformed_response")
AUTH_ABORTED = reply(501, "5.7.0", "Authentication cancelled", error="login_cancelled")
NOT_IMPLEMENTED = reply(502, "5.5.1", "Command not implemented", error="bad_command")
NEED_GREETING = reply(503, "5.5.1", "Send EHLO first (LHLO in LMTP)", error="out_of_order")
NEED_MAIL = reply(503, "5.5.1", "Send MAIL first", error="out_of_order")
BAD_CHUNK = reply(
    501, "5.5.4", "Syntax: BDAT size [LAST]; without it the end of the chunk can not be found", error="bad_command"
)
MESSAGE_LOST = reply(503, "5.5.1", "A chunk of this message was refused, send RSET", error="message_lost")
CHUNKS_BEGUN = reply(
    503, "5.5.1", "The message has begun with BDAT, which alone can go on with it", error="out_of_order"
)
BINARY_NEEDS_CHUNKS = reply(503, "5.5.1", "BODY=BINARYMIME goes by BDAT only", error="out_of_order")
NEED_RECIPIENT = reply(503, "5.5.1", "No valid recipient, send RCPT first", error="out_of_order")
NESTED_MAIL = reply(503, "5.5.1", "A sender was given already, send RSET first", error="out_of_order")
IN_TRANSACTION = reply(503, "5.5.1", "Not during a mail transaction", error="out_of_order")
ALREADY_TLS = reply(503, "5.5.1", "TLS is active already", error="out_of_order")
ALREADY_AUTHENTICATED = reply(503, "5.5.1", "Authenticated already", error="out_of_order")
UNKNOWN_MECHANISM = reply(504, "5.5.4", "Authentication mechanism not supported", error="bad_command")
AUTH_REQUIRED = reply(530, "5.7.0", "Authentication required", error="auth_required")
AUTH_FAILED = reply(535, "5.7.8", "Authentication credentials invalid", error="wrong_credentials")
TLS_REQUIRED = reply(538, "5.7.11", "Encryption required, send STARTTLS first", error="tls_required")
# RFC 3463 3.3
ACCOUNT_CLOSED_NOW = reply(450, "4.2.1", "The mailbox takes no mail now, try again later", error="account_closed")
ACCOUNT_CLOSED = reply(550, "5.2.1", "The mailbox takes no mail", error="account_closed")
NO_SUCH_MAILBOX = reply(550, "5.1.1", "There is no such mailbox here", error="no_such_account")
ALIAS_TOO_WIDE = reply(550, "5.4.6", "The alias leads too far or to too many mailboxes", error="alias_too_wide")
RELAYING_DENIED = reply(550, "5.7.1", "Relaying denied", error="relaying_denied")
NOT_ROUTABLE = reply(550, "5.1.2", "Mail can not be sent to that domain", error="not_routable")
BARE_LINE_END = reply(
    550, "5.6.0", "A bare CR or LF stands in the message: lines end with <CR><LF>", error="bad_message"
)
NUL_OCTET = reply(
    550, "5.6.0", "A NUL octet stands in the message: send it as BODY=BINARYMIME, or encoded", error="bad_message"
)
CONTENT_LINE_TOO_LONG = reply(550, "5.6.0", "A line of the message is over 998 octets", error="bad_message")
EIGHT_BIT_HEADER = reply(
    550, "5.6.7", "A header field is not ASCII: that needs the SMTPUTF8 parameter of MAIL", error="bad_message"
)
AMBIGUOUS_END = reply(
    550, "5.6.0", "A lone dot stands beside a bare CR or LF: only <CR><LF>.<CR><LF> ends data", error="bad_message"
)
HEADER_TOO_BIG = reply(552, "5.3.4", "The header of the message is over the size limit", error="too_large")
TOO_BIG = reply(552, "5.3.4", "The message is over the size limit", error="too_large")
BAD_SENDER = reply(553, "5.1.7", "Malformed sender address", error="invalid_name")
BAD_RECIPIENT = reply(553, "5.1.3", "Malformed recipient address", error="invalid_name")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "A non-ASCII address needs the SMTPUTF8 parameter of MAIL", error="invalid_name")
HOME_ELSEWHERE = reply(
    550,
    "5.7.1",
    "This cell has only a replica of your account: send mail through the cell that is its home",
    error="is_replica",
)
NOT_YOUR_ADDRESS = reply(553, "5.7.1", "This sender address does not belong to your account", error="not_your_address")
AUTHOR_ELSEWHERE = reply(
    550, "5.7.1", "From names an address elsewhere, which your organisation does not allow", error="not_your_address"
)
TOO_MANY_AUTHORS = reply(550, "5.6.0", "From, Sender or Resent-From names too many addresses", error="bad_message")
NOT_TRUSTED = reply(550, "5.7.0", "You are not trusted to speak for others", error="not_trusted")
TOO_MANY_FIELDS = reply(554, "5.6.0", "The message has too many header fields", error="bad_message")
MAIL_LOOP = reply(554, "5.4.6", "Too many Received lines: this is a mail loop", error="mail_loop")
NOT_FORWARDED = reply(
    550,
    "5.7.1",
    "A recipient forwards its mail elsewhere, and this is quarantined or its author not proved (DMARC)",
    error="not_forwarded",
)
EARLY_TALKER = reply(
    554, "5.5.1", "You spoke before the greeting (RFC 5321 4.3.1), closing the connection", error="early_talker"
)
UNKNOWN_PARAMETER = reply(555, "5.5.4", "Parameter not recognised or not implemented", error="bad_command")


_BY_TEXT = {bytes(one): one.error for one in list(globals().values()) if isinstance(one, Reply)}


def queued(message_id: bytes) -> bytes:
    """The message is committed on a majority, under this id."""
    return b"250 2.0.0 Ok: queued as %b\r\n" % message_id.hex().encode("ascii")


def suspended_login(why: str) -> bytes:
    """The credentials were right; `why` they help nothing (RFC 5248: account disabled)."""
    return reply(535, "5.7.13", why.capitalize(), error="login_suspended")


def limited_login(why: str) -> bytes:
    """The credentials were right; `why` says which limit is reached."""
    return reply(454, "4.7.0", why.capitalize(), error="login_limited")


def put_out(why: str) -> bytes:
    """Whom the session belongs to is not served any more."""
    return reply(421, "4.7.13", why.capitalize(), error="tenant_inactive")


def may_not_send(why: str) -> bytes:
    """The same, of a message that was under way."""
    return reply(550, "5.7.13", why.capitalize(), error="tenant_inactive")


def not_your_author(field: str, address: str) -> bytes:
    """`address` stands in the header field, and is neither the account's nor one that it was let send as."""
    shown = address if address.isascii() and address.isprintable() and len(address) <= 254 else "an address"
    text = f"{field} has {shown}: it is not yours, and nobody let you send as it"
    return reply(550, "5.7.1", text, error="not_your_address")


def tenant_inactive(why: str, *, refuse: bool, recipient: bool) -> bytes:
    """Mail for, or of, a tenant that is not served: put off, or refused for good."""
    code = "2.1" if recipient else "7.13"
    basic, kind = (550, 5) if refuse else (450, 4)
    return reply(basic, f"{kind}.{code}", why.capitalize(), error="tenant_inactive")


def over_quota(quota: str, why: str) -> bytes:
    """A quota of the tenant is used up: for what is kept (RFC 5248: mailbox full), or for what is sent."""
    return reply(452, "4.7.0" if "sending" in quota else "4.2.2", why.capitalize(), error="over_tenant_quota")


def verified(address: str) -> bytes:
    """Mail for this address is taken."""
    return b"250 2.1.5 <%b>\r\n" % address.encode()


def chunk_taken(size_bytes: int) -> bytes:
    """A chunk has come whole; the message has not."""
    return b"250 2.0.0 %d octets received\r\n" % size_bytes
