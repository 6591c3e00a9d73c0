"""Why a command was refused.

A refusal is decided before anything is proposed: nothing happened and nothing will. Each class says what the asker
can do about it, so that a front end can choose its wire reply by class; the text is for people and carries no secret.
"""

from __future__ import annotations

import re
from typing import ClassVar


class CommandRefused(Exception):
    """The command can not be carried out in the present state; nothing was proposed.

    `code` names the class to programs, in the API, in logs and in metrics: what is published is never renamed.
    """

    code: ClassVar[str] = "command_refused"

    def __init_subclass__(cls) -> None:
        """A class is called in code as it is in the program: NoSuchAccount is no_such_account."""
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class NoSuchAccount(CommandRefused):
    """The account does not exist, or is closed."""


class NoSuchTenant(CommandRefused):
    """The tenant does not exist."""


class NoSuchDomain(CommandRefused):
    """The domain is not one of the tenant's."""


class NoSuchAlias(CommandRefused):
    """The alias does not exist."""


class NoSuchCredential(CommandRefused):
    """The account has no such app password, or no one-time codes."""


class NoSuchRole(CommandRefused):
    """The account or administrator holds no role that could be taken."""


class NoSuchToken(CommandRefused):
    """There is no token of that id."""


class NoSuchFolder(CommandRefused):
    """The folder does not exist (IMAP: `[NONEXISTENT]`, or `[TRYCREATE]` when it was the target)."""


class FolderExists(CommandRefused):
    """A folder of that name exists (IMAP: `[ALREADYEXISTS]`)."""


class NoSuchMessage(CommandRefused):
    """None of the messages exists any more."""


class NoSuchItem(CommandRefused):
    """The queue holds no such item."""


class InvalidName(CommandRefused):
    """A name, address or domain is not well formed (IMAP: `[CANNOT]`, SMTP: 501 or 553)."""


class NameTaken(CommandRefused):
    """A tenant name, domain or address is held by another."""


class NotLocal(CommandRefused):
    """The address belongs to a domain that is not ours."""


class NotAllowed(CommandRefused):
    """The state forbids it: INBOX can not be deleted, a live lease is not taken over (IMAP: `[CANNOT]`)."""


class MaildropInUse(CommandRefused):
    """Another session has the maildrop open, alone (POP3: `[IN-USE]`)."""


class NoRight(CommandRefused):
    """Another's mailbox, and not among the rights to it (IMAP: `[NOPERM]`)."""


class OverQuota(CommandRefused):
    """The mailbox is full (IMAP: `[OVERQUOTA]`, SMTP: 452 4.2.2)."""


class OverTenantQuota(OverQuota):
    """The tenant has used up one of its quotas (IMAP: `[OVERQUOTA]`, SMTP: 452 4.2.2, or 4.7.0 for sending)."""

    def __init__(self, quota: str, text: str) -> None:
        super().__init__(text)
        self.quota = quota


class TenantInactive(CommandRefused):
    """The tenant is suspended, or is being deleted. `refuse`: mail for it is refused for good (5xx), not put off."""

    def __init__(self, text: str, *, refuse: bool) -> None:
        super().__init__(text)
        self.refuse = refuse


class NoSuchGroup(CommandRefused):
    """The group does not exist."""


class TooLarge(CommandRefused):
    """The request is beyond a fixed limit: too many flags, recipients, folders."""


class TooManyAnnotations(TooLarge):
    """The account has as many annotations as it may (IMAP: `[METADATA TOOMANY]`)."""


class NoSuchCertificate(CommandRefused):
    """No certificate of that fingerprint, name or order is there."""


class NoSuchKey(CommandRefused):
    """The domain has no key of that selector."""


class NoSuchSetting(CommandRefused):
    """It is not set for the cluster."""


class NoSuchRoute(CommandRefused):
    """There is no route for that."""


class NoSuchGrant(CommandRefused):
    """Nobody was granted to follow this log under that name."""


class NoSuchFollow(CommandRefused):
    """Nothing is followed under that name."""


class Superseded(CommandRefused):
    """Something else was committed first: what the command stood on is past."""


class IsReplica(CommandRefused):
    """What the command would change has its home in another cell (IMAP: `[NOPERM]`)."""

    def __init__(self, home: str) -> None:
        super().__init__(replica_text(home))


def replica_text(home: str) -> str:
    """What somebody is told who would change a replica."""
    return f"this is a replica: its home is the cell {home}, and it can be changed there only"
