"""What a configuration may not be as a whole: values that are each allowed, but not together, and not in its profile.

A profile sets defaults, which the file may override, and forbids what nobody wants where it is chosen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nodes.addresses import split_address
from nodes.config.node import LISTENERS, NodeConfig
from nodes.config.tracing import MISSING, is_installed

Wrong = tuple[str, str]  # the key to change, and why


class Profile(NamedTuple):
    """`defaults` by section and key; `forbids` gives what is wrong."""

    defaults: Mapping[str, Mapping[str, Any]]
    forbids: Callable[[NodeConfig], Iterator[Wrong]]


def wrong_together(config: NodeConfig) -> list[Wrong]:
    """Every combination that can not work, and what the profile forbids."""
    return [
        *_members(config),
        *_addresses(config),
        *_limits(config),
        *PROFILES[config.node.profile].forbids(config),
    ]


def _members(config: NodeConfig) -> Iterator[Wrong]:
    node, raft = config.node, config.raft
    if node.name not in raft.peers:
        yield "raft.peers", f"must name this node too ({node.name})"
    if not raft.join and len(raft.peers) not in (1, 3, 5):
        yield "raft.peers", f"has {len(raft.peers)} members; a cell has 1, 3 or 5"
    if raft.heartbeat_ms * 2 > raft.election_timeout_ms[0]:
        yield "raft.heartbeat_ms", "must be at most half of the shortest raft.election_timeout_ms"
    if (config.tls.server_certificate is None) != (config.tls.server_key is None):
        yield "tls.server_key", "is needed together with tls.server_certificate"
    if config.tracing.enabled and not is_installed():
        yield "tracing.enabled", MISSING


def _addresses(config: NodeConfig) -> Iterator[Wrong]:
    taken = {config.raft.listen: "raft.listen"}
    for use, address in config.listen:
        if not address or address.endswith(":0"):
            continue
        if address in taken:
            yield f"listen.{use}", f"is the address of {taken[address]} too; each needs one of its own"
        taken.setdefault(address, f"listen.{use}")


def _limits(config: NodeConfig) -> Iterator[Wrong]:
    limits, queue = config.limits, config.queue
    if limits.auth_delay_s > limits.auth_delay_max_s:
        yield "limits.auth_delay_s", f"must be at most limits.auth_delay_max_s ({limits.auth_delay_max_s:g})"
    if queue.retry_first_s > queue.retry_max_s:
        yield "queue.retry_first_s", f"must be at most queue.retry_max_s ({queue.retry_max_s:g})"


def _of_development(config: NodeConfig) -> Iterator[Wrong]:
    for use in LISTENERS:
        address = getattr(config.listen, use)
        if address and not _is_loopback(address):
            yield f"listen.{use}", "node.profile = development listens on this machine's loopback addresses only"


def _of_production(config: NodeConfig) -> Iterator[Wrong]:
    trusting = {
        "smtp.proxy_from": config.smtp.proxy_from,
        "smtp.xclient_from": config.smtp.xclient_from,
        "smtp.priority_from": config.smtp.priority_from,
        "policy.exempt": config.policy.exempt,
    }
    for key, networks in trusting.items():
        if any(network.prefixlen == 0 for network in networks):
            yield key, f"node.profile = {config.node.profile} does not trust every address there is"


def _of_strict(config: NodeConfig) -> Iterator[Wrong]:
    yield from _of_production(config)
    must = {
        "auth.plaintext_without_tls": "never",
        "smtp.bare_line_ends": "refuse",
        "smtp.nul_octets": "refuse",
        "smtp.vrfy": False,
        "delivery.mta_sts": True,
        "delivery.dane": True,
    }
    for key, value in must.items():
        if _at(config, key) != value:
            yield key, f"node.profile = strict allows {str(value).lower()} only"
    if config.log.level == "debug":
        yield "log.level", "node.profile = strict does not log what sessions say"
    if config.listen.http and not _is_loopback(config.listen.http):
        yield "listen.http", "is in clear: node.profile = strict has it on a loopback address only"
    if config.dns.trust_ad and not (config.dns.nameservers and all(map(_is_loopback, config.dns.nameservers))):
        yield "dns.trust_ad", "node.profile = strict trusts name servers on this machine only: dns.nameservers"


def _at(config: NodeConfig, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _is_loopback(address: str) -> bool:
    if address.startswith("fd:"):
        return True  # where that is bound is the service manager's business
    host = split_address(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


PROFILES: Mapping[str, Profile] = {
    "development": Profile({"auth": {"plaintext_without_tls": "loopback"}, "node": {"watch_s": 1.0}}, _of_development),
    "production": Profile({}, _of_production),
    "strict": Profile(
        {
            "log": {"format": "json"},
            "smtp": {"long_lines": "refuse", "eight_bit_headers": "refuse", "greeting_delay_s": 2.0},
        },
        _of_strict,
    ),
}


def profile_defaults(name: Any) -> Iterable[tuple[str, str, Any]]:
    """Section, key and value of each default of the profile; none of a profile that does not exist."""
    profile = PROFILES.get(name) if isinstance(name, str) else None
    for section, table in (profile.defaults if profile else {}).items():
        for key, value in table.items():
            yield section, key, value
