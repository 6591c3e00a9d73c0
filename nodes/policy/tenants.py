"""What holds for each tenant's mail at the moment: the node's configuration, and what was set for the tenant.

Read from the tables once for each tenant, and again when its stream has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from actors.tenant_policy import OFF, ON, settings
from eventlog.log import EventLog
from eventlog.record import NO_TENANT
from nodes.config.node import NodeConfig

REMEMBERED = 10_000


class MailPolicy(NamedTuple):
    """Settings of actors/tenant_policy.py, as they hold."""

    greylisting: str = OFF
    greylist_delay_s: float = 300
    blocklists: str = "refuse"
    block_weight: int = 1
    allowlists: str = ON
    client_messages_per_hour: int = 0
    client_recipients_per_hour: int = 0
    account_connections_per_hour: int = 0
    account_commands_per_hour: int = 0
    account_messages_per_hour: int = 0
    account_recipients_per_hour: int = 0
    tenant_connections_per_hour: int = 0
    tenant_commands_per_hour: int = 0
    tenant_messages_per_hour: int = 0
    tenant_recipients_per_hour: int = 0
    account_logins_per_hour: int = 0
    tenant_logins_per_hour: int = 0
    account_sessions: int = 0
    tenant_sessions: int = 0
    account_bytes_per_hour: int = 0
    tenant_bytes_per_hour: int = 0
    account_bytes_per_second: int = 0
    tenant_bytes_per_second: int = 0
    spam: str = "junk"
    message_bytes: int = 0
    extensions: str = "+"
    eight_bit: str = "convert"
    pop3_apop: str = OFF
    pop3_exclusive: str = OFF
    pop3_utf8: str = "send"
    authors_elsewhere: str = "send"
    own_names: str = "off"
    password_known_bad: str = "refuse"
    verp: str = OFF


def defaults(config: NodeConfig) -> MailPolicy:
    """What holds where a tenant has set nothing."""
    section = config.policy
    rates = {
        name: getattr(section, name)
        for name in MailPolicy._fields
        if name.endswith(("_per_hour", "_per_second")) and hasattr(section, name)
    }
    return MailPolicy(
        greylisting=ON if section.greylisting else OFF,
        greylist_delay_s=section.greylist_delay_s,
        block_weight=section.block_weight,
        message_bytes=config.limits.message_bytes,
        eight_bit=config.delivery.eight_bit,
        **rates,
    )


PolicyOf = Callable[[bytes], MailPolicy]


class TenantPolicies:
    """Used on the event loop; `stop` follows nothing any more."""

    def __init__(self, log: EventLog, config: NodeConfig) -> None:
        self._log = log
        self.default = defaults(config)
        self._known: dict[bytes, MailPolicy] = {NO_TENANT: self.default}
        self._following: dict[bytes, Callable[[], None]] = {}

    def of(self, tenant: bytes) -> MailPolicy:
        """What holds for this tenant; `default` itself where it has set nothing."""
        known = self._known.get(tenant)
        return known if known is not None else self._read(tenant)

    def reload(self, config: NodeConfig) -> None:
        """Other defaults from now on."""
        self.default = defaults(config)
        self._known = {NO_TENANT: self.default}

    def stop(self) -> None:
        for unsubscribe in self._following.values():
            unsubscribe()
        self._following.clear()
        self._known = {NO_TENANT: self.default}

    def _read(self, tenant: bytes) -> MailPolicy:
        if tenant not in self._following:
            if len(self._following) >= REMEMBERED:
                self.stop()
            self._following[tenant] = self._log.subscribe(tenant, lambda _: self._forget(tenant))
        with self._log.snapshot() as snapshot:
            found = settings(snapshot.view(tenant))
        known = {name: value for name, value in found.items() if name in MailPolicy._fields}
        policy = self.default._replace(**known) if known else self.default  # type: ignore[arg-type]
        self._known[tenant] = policy
        return policy

    def _forget(self, tenant: bytes) -> None:
        self._known.pop(tenant, None)
