"""What the CAPABILITY response lists (RFC 3501 7.2.1): only what is done, and what holds in the present state."""

from collections.abc import Collection, Sequence

_ALWAYS = (
    "IMAP4rev1",
    "IMAP4rev2",
    "SASL-IR",
    "ID",
    "IDLE",
    "NAMESPACE",
)
# RFC 7888 5: never both at a time. A stranger may send little that nobody asked for.
_STRANGER = ("LITERAL-",)
_AUTHENTICATED = (
    "LITERAL+",
    "ENABLE",
    "UNSELECT",
    "UIDPLUS",
    "MOVE",
    "CHILDREN",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "STATUS=SIZE",
    "BINARY",
    "MULTIAPPEND",
    "CATENATE",
    "REPLACE",
    "PREVIEW",
    "CONDSTORE",
    "QRESYNC",
    "METADATA",
    "LIST-METADATA",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "UIDONLY",
    "COMPRESS=DEFLATE",
    "UTF8=ACCEPT",
    "OBJECTID",
    "SAVEDATE",
    "ACL",
    "RIGHTS=kxte",
    "LIST-MYRIGHTS",
    "NOTIFY",
    *(
        "ESEARCH",
        "SEARCHRES",
        "WITHIN",
        "SORT",
        "SORT=DISPLAY",
        "ESORT",
        "PARTIAL",
        "MULTISEARCH",
        "CONTEXT=SEARCH",
        "CONTEXT=SORT",
    ),
    *("THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES"),
)


def before_login(*, start_tls: bool, mechanisms: Sequence[str]) -> bytes:
    """`start_tls`: STARTTLS is possible; `mechanisms`: how one may log in over this connection as it is."""
    names = [*_ALWAYS, *_STRANGER]
    if start_tls:
        names.append("STARTTLS")
    names += [f"AUTH={name}" for name in mechanisms] or ["LOGINDISABLED"]
    return " ".join(names).encode("ascii")


def after_login(*, append_limit_bytes: int, withheld: Collection[str] = ()) -> bytes:
    """With RFC 7889's limit for APPEND, without what is withheld."""
    told = (name for name in _AUTHENTICATED if name not in withheld)
    return " ".join((*_ALWAYS, *told, f"APPENDLIMIT={append_limit_bytes}")).encode("ascii")
