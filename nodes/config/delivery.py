"""[delivery]: how this machine sends mail to others: ports, addresses to send from, TLS, patience, connections."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from nodes.config.values import Count, Name, Patience, Section, parse_list

Port = Annotated[int, Field(ge=1, le=65535)]


def _parse_pools(value: Any) -> Any:
    """Text is `default=192.0.2.1 2001:db8::1,bulk=192.0.2.2`; a TOML table of lists passes unchanged."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError("must be pool=address address, several pools separated by commas")
    return {name.strip(): addresses.split() for name, _, addresses in pairs}


def _check_source(value: str) -> str:
    address, _, name = value.partition("/")
    ipaddress.ip_address(address)  # raises ValueError that says what is wrong
    if "/" in value and not name:
        raise ValueError("a name for EHLO stands behind the slash, as in 192.0.2.1/mail2.example.test")
    return value


def _check_addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_address(one)) for one in value)


Source = Annotated[str, AfterValidator(_check_source)]


class DeliverySection(Section):
    """Sending mail to other servers."""

    port: Port = Field(default=25, description="The port of other mail servers; another one is for tests.")
    families: Literal["both", "ipv6", "ipv4"] = Field(
        default="both", description="Which addresses of a host are tried: IPv6 has a head start of a quarter second."
    )
    sources: Annotated[dict[Name, tuple[Source, ...]], BeforeValidator(_parse_pools)] = Field(
        default={},
        description="Pools of addresses to send from, each with the name for EHLO behind a slash if it is not "
        'node.hostname: `default = ["192.0.2.1", "2001:db8::1/mail6.example.test"]`. A route may name another pool '
        "than `default`; a destination keeps to one address of its pool.",
    )
    own_names: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = Field(
        default=(), description="Other names by which an MX record may mean this cell; mail is not sent to ourselves."
    )
    own_addresses: Annotated[tuple[str, ...], BeforeValidator(parse_list), AfterValidator(_check_addresses)] = Field(
        default=(), description="Addresses before a translator or balancer that lead to this cell."
    )
    trust: Path | None = Field(
        default=None, description="CA certificates (PEM) against which servers are checked; the system's if not given."
    )
    eight_bit: Literal["convert", "return"] = Field(
        default="convert",
        description="Mail with 8-bit content for a server without 8BITMIME (RFC 6152 3): converted to 7 bits and "
        "signed anew, or returned with 5.6.3. A tenant may have it otherwise.",
    )
    mta_sts: bool = Field(default=True, description="Whether MTA-STS policies (RFC 8461) are fetched and obeyed.")
    mta_sts_port: Port = Field(default=443, description="The port of policy hosts; another one is for tests.")
    dane: bool = Field(default=True, description="Whether DANE (RFC 7672) counts, where dns.trust_ad says it can.")
    connections: Count = Field(default=200, description="Connections to other servers at one time.")
    connections_per_host: Count = Field(default=10, description="Of them, to one address of a host.")
    idle_s: Patience = Field(default=5.0, description="How long a connection waits for another message to its host.")
    messages_per_connection: Count = Field(default=100, description="Messages over one connection.")
    connection_age_s: Patience = Field(default=300.0, description="A connection is not used for longer than this.")
    hosts: Count = Field(default=5, description="Addresses that are tried for a message in one attempt.")
    recipients: Count = Field(default=100, description="Recipients of one transaction (RFC 5321 4.5.3.1.8).")
    connect_timeout_s: Patience = Field(default=30.0, description="For a connection to one host.")
    greeting_timeout_s: Patience = Field(default=300.0, description="For the greeting (RFC 5321 4.5.3.2.1).")
    command_timeout_s: Patience = Field(default=300.0, description="For EHLO, MAIL and RCPT (RFC 5321 4.5.3.2.2).")
    tls_timeout_s: Patience = Field(default=30.0, description="For a TLS handshake.")
    data_timeout_s: Patience = Field(default=120.0, description="For the reply to DATA (RFC 5321 4.5.3.2.4).")
    block_timeout_s: Patience = Field(default=180.0, description="For a part of the message (RFC 5321 4.5.3.2.5).")
    end_timeout_s: Patience = Field(
        default=600.0, description="For the reply to the end of the message (RFC 5321 4.5.3.2.6)."
    )
    attempt_timeout_s: Patience = Field(default=1800.0, description="For one message to one domain, all in all.")
