"""The table [smtp]: what this node's SMTP and LMTP listeners let pass, and whom they believe."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from nodes.config.values import KIB, Count, Patience, Seconds, Section, Size, parse_list

SmtpListenerKind = Literal["smtp", "submission", "submissions", "lmtp"]
Choice = Literal["accept", "refuse"]


def parse_listeners(value: Any) -> Any:
    """Text is kinds of listeners, separated by commas."""
    return parse_networks(value)


def parse_networks(value: Any) -> Any:
    """Text is networks or addresses, separated by commas."""
    return [part for part in parse_list(value) if part]


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = Annotated[tuple[Network, ...], BeforeValidator(parse_networks)]


class SmtpSection(Section):
    """SMTP and LMTP: strictness, pace, and the peers that may speak for others."""

    RELOADS: ClassVar[bool | frozenset[str]] = True
    RESTART: ClassVar[frozenset[str]] = frozenset({"proxy_protocol"})
    CLUSTER: ClassVar[frozenset[str]] = frozenset({
        "bare_line_ends", "nul_octets", "long_lines", "eight_bit_headers", "header_fields", "header_bytes",
        "received_lines", "transactions", "hold_s", "vrfy",
    })  # fmt: skip

    bare_line_ends: Choice = Field(
        default="refuse",
        description="CR or LF that does not stand in a CRLF (RFC 5321 2.3.8). One beside a lone dot is always refused, "
        "since it smuggles.",
    )
    nul_octets: Choice = Field(
        default="refuse", description="NUL in a message that is not declared as BINARYMIME (RFC 2045 2.8)."
    )
    long_lines: Choice = Field(
        default="accept", description="Lines of a message over 998 octets (RFC 5321 4.5.3.1.6); real mail has them."
    )
    eight_bit_headers: Choice = Field(
        default="accept", description="Header fields outside ASCII in a message without SMTPUTF8; real mail has them."
    )
    header_fields: Count = Field(default=1000, description="Header fields of a message.")
    header_bytes: Size = Field(default=256 * KIB, ge=1 * KIB, description="Size of a message's whole header.")
    received_lines: Count = Field(
        default=100,
        description="Most Received lines of a message; with more it is called a loop (RFC 5321 6.3: at least 100).",
    )
    transactions: Count = Field(default=10_000, description="Messages in one session (RFC 9422 MAILMAX).")
    idle_commands: Count = Field(
        default=1000, description="Commands in a row that bring no mail, after which a session is closed."
    )
    content_bytes_per_s: Count = Field(
        default=500,
        description="A client that sends a message slower than this, after limits.smtp_idle_s of grace, is closed.",
    )
    tls_handshake_s: Patience = Field(default=30.0, description="How long a TLS handshake may take.")
    checks_s: Patience = Field(
        default=240.0, description="How long all checks of one command may take together; then it is refused with 451."
    )
    greeting_delay_s: Seconds = Field(
        default=0.0,
        description="How long the smtp listener's greeting waits; who speaks before it is refused (RFC 5321 4.3.1).",
    )
    hold_s: Patience = Field(
        default=7 * 86400.0, description="Longest that a submitter may have a message held (RFC 4865)."
    )
    vrfy: bool = Field(default=False, description="Whether VRFY tells who exists; otherwise it always answers 252.")
    proxy_protocol: Annotated[tuple[SmtpListenerKind, ...], BeforeValidator(parse_listeners)] = Field(
        default=(), description="Listeners whose clients all come through a proxy that speaks the PROXY protocol."
    )
    proxy_from: Networks = Field(
        default=(), description="Networks of those proxies; on such a listener everybody else is refused."
    )
    proxy_s: Patience = Field(default=5.0, description="How long the PROXY header is waited for.")
    xclient_from: Networks = Field(
        default=(), description="Networks whose clients may say by XCLIENT on whose behalf they speak."
    )
    priority_from: Networks = Field(
        default=(), description="Networks of servers whose MT-PRIORITY is believed (RFC 6710); submitters always may."
    )
