"""What HELP says: the commands of a listener, and the syntax of each with the document that defines it."""

from __future__ import annotations

from collections.abc import Iterable

from nodes.smtp.replies import reply

SYNTAX: dict[bytes, str] = {
    b"HELO": "HELO domain (RFC 5321 4.1.1.1)",
    b"EHLO": "EHLO domain-or-address-literal (RFC 5321 4.1.1.1)",
    b"LHLO": "LHLO domain-or-address-literal (RFC 2033 4.1)",
    b"MAIL": "MAIL FROM:<address> [parameters that EHLO offers] (RFC 5321 4.1.1.2)",
    b"RCPT": "RCPT TO:<address> [NOTIFY=...] [ORCPT=type;address] (RFC 5321 4.1.1.3, RFC 3461 4)",
    b"DATA": "DATA, then the message, then a line with a dot alone (RFC 5321 4.1.1.4)",
    b"BDAT": "BDAT octets [LAST], then so many octets (RFC 3030 2)",
    b"RSET": "RSET (RFC 5321 4.1.1.5)",
    b"NOOP": "NOOP (RFC 5321 4.1.1.9)",
    b"QUIT": "QUIT (RFC 5321 4.1.1.10)",
    b"HELP": "HELP [command] (RFC 5321 4.1.1.8)",
    b"VRFY": "VRFY address (RFC 5321 4.1.1.6)",
    b"EXPN": "EXPN is not offered (RFC 5321 7.3)",
    b"STARTTLS": "STARTTLS (RFC 3207)",
    b"AUTH": "AUTH mechanism [initial-response] (RFC 4954)",
    b"XCLIENT": "XCLIENT attribute=xtext ..., for proxies that this server knows",
}


def help_on(verbs: Iterable[bytes], argument: bytes) -> bytes:
    """The reply to HELP: 214 with the syntax of one command, or with all that this listener knows."""
    asked = SYNTAX.get(argument.strip().upper())
    if asked is not None:
        return reply(214, "2.0.0", asked)
    names = " ".join(sorted(verb.decode("ascii") for verb in verbs))
    return reply(214, "2.0.0", f"Commands: {names}", "HELP command tells its syntax", "postmaster reads mail")
