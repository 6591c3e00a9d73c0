"""GETQUOTA and GETQUOTAROOT (RFC 9208): one root, "", for all mailboxes of an account. Limits are set elsewhere.

The administrator sets them (`mailraft account quota`): SETQUOTA is refused, and QUOTASET is not offered.
"""

from __future__ import annotations

from actors.mailbox import usage
from nodes.imap import render
from nodes.imap.errors import Refusal
from nodes.imap.metadata_commands import GetQuota, GetQuotaRoot, SetQuota
from nodes.imap.places import enter
from nodes.imap.session import Session
from nodes.imap.shared import Handler

UNIT_BYTES = 1024  # RFC 9208 5.1


async def get_quota(session: Session, command: GetQuota) -> str:
    if command.root:
        raise Refusal("no such quota root", "NONEXISTENT")
    _tell(session)
    return "GETQUOTA completed"


async def get_quota_root(session: Session, command: GetQuotaRoot) -> str:
    """What another has and uses is not told: a mailbox of theirs has no root here."""
    found = enter(session, command.name, "r")
    own = session.place is None
    session.write(
        b"* QUOTAROOT " + render.mailbox(found.name, session.features.utf8) + (b' ""\r\n' if own else b"\r\n")
    )
    if own:
        _tell(session)
    return "GETQUOTAROOT completed"


def _tell(session: Session) -> None:
    """A resource without a limit is left out (RFC 9208 4.2.1); what is used is rounded up, so that it is never 0."""
    with session.reading() as reading:
        used = usage(reading.view)
    resources = []
    if used.limit_bytes is not None:
        resources.append(b"STORAGE %d %d" % (-(-used.bytes // UNIT_BYTES), used.limit_bytes // UNIT_BYTES))
    if used.limit_messages is not None:
        resources.append(b"MESSAGE %d %d" % (used.messages, used.limit_messages))
    session.write(b'* QUOTA "" (' + b" ".join(resources) + b")\r\n")


async def set_quota(session: Session, command: SetQuota) -> str:
    raise Refusal("quotas are set by the administrator", "NOPERM")


HANDLERS: dict[type, Handler] = {GetQuota: get_quota, GetQuotaRoot: get_quota_root, SetQuota: set_quota}
