"""Every kind of actor in the program, and the two doors to them: by command (decide) and by event (fold).

The fold calls `fold_event` for every event of the log, so this table is looked up once per event and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from actors import (
    account_state,
    acme,
    api_tokens,
    cell_authority,
    cell_succession,
    certificates,
    custody,
    dkim,
    following,
    keyring,
    mailbox,
    names,
    queue,
    region,
    reports,
    requests,
    roles,
    routes,
    settings,
    standing,
    tenant,
    upload,
    usage,
    verdicts,
)
from actors.kind import Command, Fact, UnknownEventType, decode
from eventlog.record import NO_TENANT, Event, Stamp
from eventlog.views import View


class Kind(NamedTuple):
    name: str
    commands: tuple[type[Command], ...]
    facts: tuple[type[Fact], ...]
    decide: Callable[[View, Any], tuple[Fact, ...]]
    evolve: Callable[[View, Any, Stamp], Any]
    tenant_of: Callable[[View, Any], bytes]  # whose event it is, of a view and a command
    slices: Callable[[View, Command], tuple[Command, ...]] | None = None


def _nobodys(view: View, command: Command) -> bytes:
    return NO_TENANT


def _mailbox_tenant(view: View, command: mailbox.MailboxCommand) -> bytes:
    return command.tenant if isinstance(command, mailbox.OpenMailbox) else mailbox.tenant_of(view)


def _own_stream(view: View, command: Command) -> bytes:
    return view.stream


def _queued_tenant(view: View, command: queue.QueueCommand) -> bytes:
    return queue.tenant_of(view, command) or NO_TENANT


def _claim_tenant(view: View, command: names.NameCommand) -> bytes:
    if isinstance(command, names.ClaimName):
        return command.tenant
    found = names.holder(view)
    return found.tenant if found else NO_TENANT


def _report_tenant(view: View, command: reports.ReportCommand) -> bytes:
    return command.tenant if isinstance(command, reports.TakeReport) else NO_TENANT


def _followed_tenant(view: View, command: following.FollowEvent) -> bytes:
    return command.tenant


def _fold_followed(view: View, fact: following.EventFollowed, stamp: Stamp) -> Any:
    """The origin's event, by its own kind and at its own time."""
    return _fold_as(view, fact, NO_TENANT, stamp)


def _fold_as(view: View, fact: following.EventFollowed, tenant_id: bytes, stamp: Stamp) -> Any:
    event = Event(tenant_id, view.stream, fact.type, fact.version, fact.data, b"")
    return fold_event(view, event, stamp._replace(at_ms=fact.at_ms))[1]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "mailbox",
            get_args(mailbox.MailboxCommand),
            get_args(mailbox.MailboxFact),
            mailbox.decide,
            mailbox.evolve,
            _mailbox_tenant,
            mailbox.slices,
        ),
        Kind(
            "tenant",
            get_args(tenant.TenantCommand),
            get_args(tenant.TenantFact),
            tenant.decide,
            tenant.evolve,
            _own_stream,
        ),
        Kind(
            "queue",
            get_args(queue.QueueCommand),
            get_args(queue.QueueFact),
            queue.decide,
            queue.evolve,
            _queued_tenant,
        ),
        Kind(
            "standing",
            get_args(standing.StandingCommand),
            get_args(standing.StandingFact),
            standing.decide,
            standing.evolve,
            standing.tenant_of,
        ),
        Kind(
            "requests", (requests.CarryOut,), (requests.RequestCarriedOut,), requests.decide, requests.evolve, _nobodys
        ),
        Kind("usage", (usage.CountUsage,), (usage.UsageCounted,), usage.decide, usage.evolve, usage.tenant_of),
        Kind(
            "region",
            get_args(region.RegionCommand),
            get_args(region.RegionFact),
            region.decide,
            region.evolve,
            _nobodys,
        ),
        Kind(
            "name",
            get_args(names.NameCommand),
            get_args(names.NameFact),
            names.decide,
            names.evolve,
            _claim_tenant,
        ),
        Kind(
            "following",
            get_args(following.FollowingCommand),
            get_args(following.FollowingFact),
            following.decide,
            following.evolve,
            _nobodys,
        ),
        Kind(
            "followed",
            (following.FollowEvent,),
            (following.EventFollowed,),
            following.decide_followed,
            _fold_followed,
            _followed_tenant,
        ),
        Kind(
            "custody",
            get_args(custody.CustodyCommand),
            get_args(custody.CustodyFact),
            custody.decide,
            custody.evolve,
            _nobodys,
        ),
        Kind("acme", get_args(acme.AcmeCommand), get_args(acme.AcmeFact), acme.decide, acme.evolve, acme.tenant_of),
        Kind(
            "cell authority",
            get_args(cell_authority.AuthorityCommand),
            get_args(cell_authority.AuthorityFact),
            cell_authority.decide,
            cell_authority.evolve,
            _nobodys,
        ),
        Kind(
            "cell succession",
            get_args(cell_succession.SuccessionCommand),
            get_args(cell_succession.SuccessionFact),
            cell_succession.decide,
            cell_succession.evolve,
            _nobodys,
        ),
        Kind(
            "certificates",
            get_args(certificates.CertificateCommand),
            get_args(certificates.CertificateFact),
            certificates.decide,
            certificates.evolve,
            certificates.tenant_of,
        ),
        Kind("dkim", get_args(dkim.DkimCommand), get_args(dkim.DkimFact), dkim.decide, dkim.evolve, dkim.tenant_of),
        Kind(
            "reports",
            get_args(reports.ReportCommand),
            get_args(reports.ReportFact),
            reports.decide,
            reports.evolve,
            _report_tenant,
        ),
        Kind(
            "verdicts",
            get_args(verdicts.VerdictCommand),
            get_args(verdicts.VerdictFact),
            verdicts.decide,
            verdicts.evolve,
            _nobodys,
        ),
        Kind(
            "routes",
            get_args(routes.RouteCommand),
            get_args(routes.RouteFact),
            routes.decide,
            routes.evolve,
            _nobodys,
        ),
        Kind(
            "roles",
            get_args(roles.RoleCommand),
            get_args(roles.RoleFact),
            roles.decide,
            roles.evolve,
            roles.tenant_of,
        ),
        Kind(
            "api_tokens",
            get_args(api_tokens.ApiTokenCommand),
            get_args(api_tokens.ApiTokenFact),
            api_tokens.decide,
            api_tokens.evolve,
            api_tokens.tenant_of,
        ),
        Kind(
            "account_state",
            get_args(account_state.AccountStateCommand),
            get_args(account_state.AccountStateFact),
            account_state.decide,
            account_state.evolve,
            account_state.tenant_of,
        ),
        Kind(
            "settings",
            get_args(settings.SettingsCommand),
            get_args(settings.SettingsFact),
            settings.decide,
            settings.evolve,
            _nobodys,
        ),
        Kind(
            "keyring",
            get_args(keyring.KeyringCommand),
            get_args(keyring.KeyringFact),
            keyring.decide,
            keyring.evolve,
            keyring.tenant_of,
        ),
        Kind("upload", (), (upload.BodyChunkStored,), upload.decide, upload.evolve, _nobodys),
    )
}

_BY_COMMAND = {command: kind for kind in KINDS.values() for command in kind.commands}
_EVOLVE = {fact.TYPE: kind.evolve for kind in KINDS.values() for fact in kind.facts}


def kind_of(command: Command) -> Kind:
    """The kind that decides this command. Raises TypeError for a command of no kind."""
    try:
        return _BY_COMMAND[type(command)]
    except KeyError:
        raise TypeError(f"{type(command).__name__} is the command of no actor kind") from None


def fold_event(view: View, event: Event, stamp: Stamp) -> tuple[Fact, Any]:
    """Decode an event and fold it into its stream's tables; gives the fact and what its kind's `evolve` returned.

    Raises UnknownEventType for an event of a later program.
    """
    _, _, type_, version, data, _ = event
    evolve = _EVOLVE.get(type_)
    if evolve is None:
        raise UnknownEventType(type_)
    fact = decode(type_, version, data)
    if type_ in usage.COUNTED:
        return fact, usage.fold(view, event, fact, stamp, evolve)
    if isinstance(fact, following.EventFollowed):
        return fact, _fold_as(view, fact, event.tenant, stamp)
    return fact, evolve(view, fact, stamp)
