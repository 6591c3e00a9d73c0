"""How each command of the mail protocols could ask for something of another tenant; the rest say why they can not.

Lines have NAME for an account. The tables of the servers are walked beside these, so that a command which is added
there and stands in no class here fails a test.
"""

from __future__ import annotations

Lines = dict[str, tuple[str, ...]]

_ELSE = '"Other Users/NAME"'
_URL = '"imap://NAME@localhost/INBOX;UIDVALIDITY=1/;UID=1"'
_RELATIVE = '"/Other%20Users/NAME/INBOX;UIDVALIDITY=1/;UID=1"'

# IMAP, by the command as the grammar has it: once somebody has logged in
IMAP_LOGGED_IN: Lines = {
    "SELECT": (f"SELECT {_ELSE}", 'SELECT "Other Users/NAME/INBOX"', f"SELECT {_ELSE} (CONDSTORE)"),
    "EXAMINE": ('EXAMINE "Other Users/NAME/News"',),
    "STATUS": (f"STATUS {_ELSE} (MESSAGES SIZE)",),
    "LIST": (
        'LIST "" "Other Users/NAME*"',
        'LIST "" "Other Users/%"',
        'LIST (SUBSCRIBED) "" "*" RETURN (STATUS (MESSAGES))',
        'LIST "" ("Other Users/NAME" "Other Users/NAME/*") RETURN (MYRIGHTS METADATA (/shared/comment))',
    ),
    "LSUB": ('LSUB "" "Other Users/NAME*"',),
    "SUBSCRIBE": (f"SUBSCRIBE {_ELSE}",),
    "UNSUBSCRIBE": (f"UNSUBSCRIBE {_ELSE}",),
    "CREATE": ('CREATE "Other Users/NAME/new"', 'CREATE "Other Users/NAME/new" (USE (\\Archive))'),
    "DELETE": ('DELETE "Other Users/NAME/News"',),
    "RENAME": ('RENAME "Other Users/NAME/News" mine', 'RENAME Drafts "Other Users/NAME/theirs"'),
    "GETACL": (f"GETACL {_ELSE}",),
    "SETACL": (f"SETACL {_ELSE} alice@example.test lr", "SETACL INBOX NAME lr", "SETACL INBOX -NAME lr"),
    "DELETEACL": (f"DELETEACL {_ELSE} alice@example.test", "DELETEACL INBOX NAME"),
    "MYRIGHTS": (f"MYRIGHTS {_ELSE}",),
    "LISTRIGHTS": (f"LISTRIGHTS {_ELSE} alice@example.test", "LISTRIGHTS INBOX NAME"),
    "GETQUOTA": ('GETQUOTA "NAME"',),
    "GETQUOTAROOT": (f"GETQUOTAROOT {_ELSE}",),
    "SETQUOTA": ('SETQUOTA "NAME" (STORAGE 1)',),
    "GETMETADATA": (f"GETMETADATA {_ELSE} (/shared/comment)", f"GETMETADATA (DEPTH infinity) {_ELSE} (/shared)"),
    "SETMETADATA": (f'SETMETADATA {_ELSE} (/private/comment "x")', f"SETMETADATA {_ELSE} (/shared/comment NIL)"),
    "ESEARCH": (
        f"ESEARCH IN (mailboxes {_ELSE}) ALL",
        f"ESEARCH IN (subtree {_ELSE}) ALL",
        f"ESEARCH IN (subtree-one {_ELSE} personal) RETURN (COUNT) TEXT x",
    ),
    "NOTIFY": (
        f"NOTIFY SET (mailboxes {_ELSE} (MessageNew MessageExpunge))",
        f"NOTIFY SET STATUS (subtree {_ELSE} (MessageNew MessageExpunge))",
    ),
    "APPEND": (
        f"APPEND {_ELSE} {{3+}}\r\nabc",
        f"APPEND INBOX CATENATE (URL {_URL})",
        f"APPEND INBOX CATENATE (URL {_RELATIVE} TEXT {{3+}}\r\nabc)",
    ),
}
# with a mailbox selected that has one message
IMAP_SELECTED: Lines = {
    "COPY": (f"COPY 1 {_ELSE}",),
    "MOVE": (f"MOVE 1 {_ELSE}",),
    "REPLACE": (f"REPLACE 1 {_ELSE} {{3+}}\r\nabc", f"REPLACE 1 INBOX CATENATE (URL {_URL})"),
    "SEARCH": ("SEARCH FROM NAME", "SEARCH TEXT NAME", 'SEARCH RETURN (COUNT) HEADER To "NAME"'),
    "SORT": ("SORT (ARRIVAL) UTF-8 FROM NAME",),
    "THREAD": ("THREAD REFERENCES UTF-8 TEXT NAME",),
    "UID COPY": ('UID COPY 1 "Other Users/NAME/INBOX"',),
    "UID MOVE": (f"UID MOVE 1 {_ELSE}",),
    "UID REPLACE": (f"UID REPLACE 1 {_ELSE} {{3+}}\r\nabc",),
    "UID SEARCH": ("UID SEARCH FROM NAME",),
    "UID SORT": ("UID SORT (SUBJECT) UTF-8 TEXT NAME",),
    "UID THREAD": ("UID THREAD ORDEREDSUBJECT UTF-8 FROM NAME",),
}
# before anybody is known; PLAIN: and the like stand for what is sent in base64, with : for NUL
IMAP_BEFORE: Lines = {
    "LOGIN": (
        "LOGIN NAME wrong",
        'LOGIN "NAME@@-2h" wrong',
        'LOGIN "NAME@@2026-11-01T10:00:00Z" wrong',
        'LOGIN "NAME@@#1" wrong',
    ),
    "AUTHENTICATE": (
        "AUTHENTICATE PLAIN PLAIN::NAME:wrong",
        "AUTHENTICATE PLAIN PLAIN:NAME:alice@example.test:correct horse",  # as alice, for NAME
    ),
}
_NUMBERS = "it names messages of the mailbox that is selected, by their numbers alone"
IMAP_OF_NOBODY = {
    "CAPABILITY": "it names nothing",
    "NOOP": "it names nothing",
    "LOGOUT": "it names nothing",
    "STARTTLS": "it names nothing",
    "ID": "what the client says of itself is noted in the log and nowhere else",
    "IDLE": "it names nothing",
    "NAMESPACE": "it names nothing",
    "CHECK": "it names nothing",
    "CLOSE": "it names nothing",
    "UNSELECT": "it names nothing",
    "ENABLE": "it names extensions",
    "COMPRESS": "it names an algorithm",
    "CANCELUPDATE": "it names tags of this connection",
    "EXPUNGE": "it names nothing",
    "FETCH": _NUMBERS,
    "STORE": _NUMBERS,
    "UID EXPUNGE": _NUMBERS,
    "UID FETCH": _NUMBERS,
    "UID STORE": _NUMBERS,
}

# SMTP and LMTP, by verb: before a log-in, at the listeners that have the verb
SMTP_BEFORE: Lines = {
    "VRFY": ("VRFY NAME", "VRFY <NAME>"),
    "EXPN": ("EXPN NAME", "EXPN info"),
    "HELP": ("HELP NAME",),
    "XCLIENT": ("XCLIENT LOGIN=NAME",),
}
# and after one
SMTP_LOGGED_IN: Lines = {
    "VRFY": ("VRFY NAME",),
    "EXPN": ("EXPN NAME",),
    "MAIL": ("MAIL FROM:<NAME>", "MAIL FROM:<alice@example.test> AUTH=NAME"),
    "ETRN": ("ETRN NAME",),  # which nobody offers
}
SMTP_ELSEWHERE = {
    "RCPT": "who takes mail can be asked at any mail server, of every tenant alike (a test of its own, below)",
    "AUTH": "what it answers, and what that costs, is in the tests of log-ins",
}
SMTP_OF_NOBODY = {
    "HELO": "it names the client's host",
    "EHLO": "it names the client's host",
    "LHLO": "it names the client's host",
    "DATA": "it names nothing",
    "BDAT": "it names nothing",
    "RSET": "it names nothing",
    "NOOP": "it names nothing",
    "QUIT": "it names nothing",
    "STARTTLS": "it names nothing",
}

POP3_BEFORE: Lines = {
    "USER": ("USER NAME\r\nPASS wrong", "USER NAME@@-2h\r\nPASS wrong"),
    "APOP": ("APOP NAME " + "0" * 32,),
    "AUTH": ("AUTH PLAIN PLAIN::NAME:wrong", "AUTH PLAIN PLAIN:NAME:alice@example.test:correct horse"),
}
_NUMBER = "it names a message of the own maildrop by its number"
POP3_OF_NOBODY = {
    "CAPA": "it names nothing",
    "PASS": "it goes with USER",
    "STLS": "it names nothing",
    "UTF8": "it names nothing",
    "LANG": "it names a language",
    "STAT": "it names nothing",
    "LIST": _NUMBER,
    "UIDL": _NUMBER,
    "RETR": _NUMBER,
    "TOP": _NUMBER,
    "DELE": _NUMBER,
    "RSET": "it names nothing",
    "NOOP": "it names nothing",
    "QUIT": "it names nothing",
}


def lines(table: Lines) -> tuple[str, ...]:
    """All of a table, in its order."""
    return tuple(line for some in table.values() for line in some)
