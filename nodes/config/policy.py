"""The [policy] section: what this node asks about clients before it takes mail from them, and how much it takes."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from nodes.config.smtp import Networks
from nodes.config.values import Count, Patience, Seconds, Section, parse_list

_LIST = re.compile(r"(?=.{1,200}(?:=|$))([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+)(?:=([1-9]\d{0,2}))?")


def split_list(value: str) -> tuple[str, int]:
    """A DNS list and its weight, `name` or `name=weight`; raises ValueError that says what is wrong."""
    match = _LIST.fullmatch(value.lower().removesuffix("."))
    if match is None:
        raise ValueError("must be a domain, or a domain and its weight from 1 to 999, as in bl.example.net=2")
    return match[1], int(match[2] or 1)


def _check_list(value: str) -> str:
    split_list(value)
    return value


def _parse(value: object) -> object:
    return [part for part in parse_list(value) if part]


DnsLists = Annotated[
    tuple[Annotated[str, AfterValidator(_check_list)], ...], BeforeValidator(_parse), Field(max_length=20)
]


PerHour = Annotated[int, Field(ge=0, le=1_000_000_000)]
BytesPerSecond = Annotated[int, Field(ge=0, le=2**40)]
KeepS = Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]


class PolicySection(Section):
    """Whom the `smtp` listener takes mail from, and how much anybody may send. Clients on this machine, and those that
    have logged in, are exempt from all but the rates of accounts and tenants."""

    RELOADS: ClassVar[bool | frozenset[str]] = True
    CLUSTER: ClassVar[frozenset[str]] = frozenset({
        "exempt", "blocklists", "block_weight", "allowlists", "lists_s", "greylisting", "greylist_delay_s",
        "greylist_wait_s", "greylist_keep_s", "greylist_known_after", "tarpit_s", "tarpit_free", "tarpit_longest_s",
        "client_connections_per_hour", "client_commands_per_hour", "client_messages_per_hour",
        "client_recipients_per_hour", "account_connections_per_hour", "account_commands_per_hour",
        "account_messages_per_hour", "account_recipients_per_hour", "tenant_connections_per_hour",
        "tenant_commands_per_hour", "tenant_messages_per_hour", "tenant_recipients_per_hour",
        "client_logins_per_hour", "client_bytes_per_second", "account_bytes_per_second", "tenant_bytes_per_second",
    })  # fmt: skip

    exempt: Networks = Field(default=(), description="Networks whose clients are exempt, too.")
    blocklists: DnsLists = Field(
        default=(),
        description="DNS lists (RFC 5782) of clients whose mail is refused with 550, each a domain with its weight if "
        "that is not 1: zen.example.net, bl.example.org=2. Mail to postmaster is taken all the same.",
    )
    block_weight: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="A client is refused when the lists that name it weigh so much together.",
    )
    allowlists: DnsLists = Field(
        default=(),
        description="DNS lists of clients that no blocklist and no greylisting concerns. A last octet of 0 (dnswl.org: "
        "no trust) or 255 (refused to tell) in their answer says nothing.",
    )
    lists_s: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="How long DNS lists are waited for; a client counts as not listed where none has answered.",
    )
    greylisting: bool = Field(
        default=False,
        description="Whether a server that is not known is put off with 451 when it comes first (RFC 6647).",
    )
    greylist_delay_s: Seconds = Field(default=300.0, description="How soon it is taken when it comes again.")
    greylist_wait_s: Patience = Field(
        default=2 * 86400.0, description="How long it is waited for after that; then it begins anew."
    )
    greylist_keep_s: KeepS = Field(
        default=36 * 86400.0, description="How long a server that came again is known after it came last."
    )
    greylist_known_after: Count = Field(
        default=5,
        description="Mail that a network (/24 of IPv4, /64 of IPv6) came again with, to be put off no more.",
    )
    greylist_entries: int = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description="Entries in each of the three tables of greylisting, of some 250 bytes; the oldest are dropped.",
    )
    client_connections_per_hour: PerHour = Field(
        default=0,
        description="Connections of one client (an IPv4 address, an IPv6 /64), then 421. As with all rates here: at "
        "all nodes together; so many at once, then as many as an hour brings; 0 for no limit.",
    )
    client_commands_per_hour: PerHour = Field(
        default=0, description="Commands of one client at all SMTP listeners, then 421 and the connection is closed."
    )
    account_connections_per_hour: PerHour = Field(
        default=0, description="SMTP connections over which one account logs in, then 421 at its next command."
    )
    tenant_connections_per_hour: PerHour = Field(
        default=0, description="SMTP connections over which all accounts of one tenant log in, then 421."
    )
    account_commands_per_hour: PerHour = Field(default=0, description="Commands of one account that submits, then 421.")
    tenant_commands_per_hour: PerHour = Field(
        default=0, description="Commands of all accounts of one tenant that submit, then 421."
    )
    client_messages_per_hour: PerHour = Field(default=0, description="Messages of one client, then 451.")
    client_recipients_per_hour: PerHour = Field(default=0, description="Recipients named by one client, then 451.")
    account_messages_per_hour: PerHour = Field(
        default=0, description="Messages that one account submits, from wherever, then 451."
    )
    account_recipients_per_hour: PerHour = Field(
        default=0, description="Recipients to whom one account submits mail, then 451."
    )
    tenant_messages_per_hour: PerHour = Field(
        default=0, description="Messages that all accounts of one tenant submit, then 451."
    )
    tenant_recipients_per_hour: PerHour = Field(
        default=0, description="Recipients to whom all accounts of one tenant submit mail, then 451."
    )
    client_logins_per_hour: PerHour = Field(
        default=0,
        description="Log-ins that one client tries over SMTP, IMAP and POP3, whoever it says it is and right or wrong; "
        "then it is told when to come again. Wrong ones are slowed besides (limits.auth_*).",
    )
    client_bytes_per_second: BytesPerSecond = Field(
        default=0,
        description="Octets a second of one client over SMTP, IMAP and POP3, received and sent, at all nodes together; "
        "its connections are slowed so that no more is moved. 0 for no limit, as with the next two.",
    )
    account_bytes_per_second: BytesPerSecond = Field(default=0, description="The same of one account that logs in.")
    tenant_bytes_per_second: BytesPerSecond = Field(
        default=0,
        description="The same of all accounts of one tenant, of mail that other servers bring it, and of what it sends "
        "to others.",
    )
    tarpit_s: Seconds = Field(
        default=0.0,
        description="How much longer each further refusal (5xx) of a client that is refused again and again waits; 0: "
        "no tarpit. Refusals are counted at all nodes together, until there was none for ten minutes.",
    )
    tarpit_free: int = Field(default=5, ge=0, le=10_000, description="Refusals that do not wait.")
    tarpit_longest_s: Seconds = Field(default=30.0, description="A refusal waits no longer than this.")
    tarpit_sessions: Count = Field(
        default=500, description="Sessions whose refusal waits at one time, at this node; others hear theirs at once."
    )
