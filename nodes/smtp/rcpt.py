"""One recipient, from the command to its place in the envelope: a mailbox here, or the queue of a domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from actors.errors import InvalidName
from actors.mail_options import RecipientOptions
from actors.names import normalise_domain
from nodes.smtp import replies
from nodes.smtp.grammar import RecipientCommand, domain_of
from nodes.smtp.parameters import NOTHING_ASKED
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.smtp.session import Envelope, Session

_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost


class Recipient(NamedTuple):
    """A recipient that may be taken: its mailboxes, or none and the domain whose queue its mail goes to."""

    address: str
    local: bool
    targets: list[Target]
    domain: str
    options: RecipientOptions


def place(session: Session, envelope: Envelope, command: RecipientCommand, targets: list[Target] | None) -> Recipient:
    """Where mail for this recipient goes; `targets` is None for a domain that is not ours. Raises Refused."""
    if targets is None:
        return Recipient(command.address, False, [], _remote_domain(session, command.address), command.options)
    if not envelope.options.hold_until_ms:
        return _tuple(Recipient, (command.address, True, targets, "", command.options))
    # RFC 4865: it waits in the queue, whoever it is for; `postmaster` may have come without its domain
    domain = normalise_domain(domain_of(command.address) or domain_of(targets[0].address))
    address = command.address if "@" in command.address else f"{command.address}@{domain}"
    return Recipient(address, True, [], domain, command.options)


def take(envelope: Envelope, recipient: Recipient) -> bytes:
    """Puts it into the envelope."""
    if recipient.domain:
        envelope.remote.setdefault(recipient.domain, []).append(recipient.address)
    else:
        envelope.accept(recipient.address, recipient.targets)
    envelope.rcpt_tos.append(recipient.address)
    if recipient.options is not NOTHING_ASKED:
        envelope.recipient_options.setdefault(recipient.address, recipient.options)
    return replies.RECIPIENT_OK


def _remote_domain(session: Session, address: str) -> str:
    if session.account is None:
        raise Refused(replies.RELAYING_DENIED)
    try:
        return normalise_domain(domain_of(address))
    except InvalidName:
        raise Refused(replies.NOT_ROUTABLE) from None
