"""What clients of SMTP, LMTP, IMAP and POP3 are refused for, and what becomes of mail that is sent on."""

from __future__ import annotations

from nodes.errors.kinds import ELSEWHERE, NEVER, ErrorKind, later

COMMANDS = tuple(
    ErrorKind(code, category, "info", NEVER, title)
    for code, category, title in (
        ("bad_command", "bad_request", "The command was not understood, or is not offered"),
        ("line_too_long", "bad_request", "A line or literal is over the limit"),
        ("out_of_order", "bad_request", "The command is not legal now"),
        ("not_http", "bad_request", "A browser speaks HTTP to a mail server"),
        ("timed_out", "refused", "Nothing came in time"),
        ("early_talker", "refused", "The client spoke before the greeting"),
    )
)

LIMITS = tuple(
    ErrorKind(code, "too_many", "warning", later(after_s), title, hint)
    for code, after_s, title, hint in (
        ("too_many_connections", 60, "Too many connections", "limits.connections, limits.connections_per_address"),
        ("too_many_commands", 60, "Too many commands that bring no mail", "smtp.idle_commands"),
        ("too_many_errors", 60, "Too many errors on one connection", "limits.errors"),
        ("too_many_messages", 1, "Enough messages for one connection", "another connection"),
        ("too_many_recipients", 1, "Too many recipients", "the rest in another transaction"),
        ("too_much_mail", 10, "More mail is arriving at once than is held", "smtp.held"),
        ("rate_limited", 600, "The rate of the client, account or tenant is used up", "mailraft policy show TENANT"),
    )
)

ADDRESSES = tuple(
    ErrorKind(code, "refused", "info", NEVER, title, hint)
    for code, title, hint in (
        ("account_closed", "The mailbox takes no mail", ""),
        ("alias_too_wide", "An alias leads too far, or to too many mailboxes", "mailraft alias list"),
        ("not_routable", "Mail can not be sent to that domain", ""),
        ("not_your_address", "The sender's address does not belong to the account", "mailraft alias add"),
        ("not_trusted", "The client may not speak for others", "smtp.xclient_from"),
        ("relaying_denied", "Mail to elsewhere is taken of those who log in", "log in, on the port for submission"),
    )
)

MESSAGES = tuple(
    ErrorKind(code, "refused", "info", retry, title, hint)
    for code, retry, title, hint in (
        ("bad_message", NEVER, "The message breaks the rules of its format", ""),
        ("mail_loop", NEVER, "The message has come round too often", ""),
        ("message_lost", NEVER, "A part of the message was refused before", ""),
        ("not_forwarded", NEVER, "The message may not be forwarded: its author is not proved", ""),
        ("blocklisted", NEVER, "A list that is asked names the client", "[policy] lists; docs/smtp.md"),
        ("dmarc_failed", NEVER, "The author's domain asks to refuse it (DMARC)", "mailraft verdicts"),
        ("dmarc_unknown", later(300), "The DNS can not say whether the author's domain sent it", ""),
        ("filter_refused", NEVER, "A filter refuses it", "docs/filters.md"),
        ("greylisted", later(300), "The client is not known here yet", "[policy] greylisting"),
        ("spam_refused", NEVER, "It looks like spam", "mailraft policy show TENANT"),
    )
)

ONWARD = (
    ErrorKind("filter_down", "not_ready", "error", later(30), "A filter can not be asked", "docs/filters.md"),
    ErrorKind("not_accepted", "rejected", "warning", ELSEWHERE, "The message could not be committed"),
    ErrorKind(
        "delivery_deferred",
        "refused",
        "info",
        later(300),
        "A server did not take the message yet",
        "mailraft queue show",
    ),
    ErrorKind("delivery_failed", "refused", "info", NEVER, "A server refuses the message: its sender is told", ""),
    ErrorKind(
        "delivery_unknown", "unknown", "warning", later(300), "A server's last answer was lost: it is sent again", ""
    ),
    ErrorKind("delivery_broken", "internal", "error", later(60), "Sending mail failed here", "read the node's log"),
    ErrorKind(
        "outcomes_unrecorded",
        "internal",
        "error",
        later(5),
        "What became of mail is not in the log yet",
        "it is tried again",
    ),
    ErrorKind("reports_failed", "internal", "error", later(3600), "Reports on mail could not be counted or sent", ""),
)

KINDS = (*COMMANDS, *LIMITS, *ADDRESSES, *MESSAGES, *ONWARD)
