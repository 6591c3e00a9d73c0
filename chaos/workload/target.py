"""What a workload works on: the nodes' addresses, the accounts and what each of them is for."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from chaos.admin_client import AdminAccess
from chaos.cluster import Cluster

DOMAIN = "chaos.test"
ACCOUNTS = tuple(f"user{number}@{DOMAIN}" for number in range(1, 5))
WITNESSES = tuple(f"witness{number}@{DOMAIN}" for number in range(1, 3))
VAULT = f"vault@{DOMAIN}"
NAMES = tuple(f"name{number}@{DOMAIN}" for number in range(1, 5))


class Target(NamedTuple):
    """`endpoints`: host:port by node and use. `password` opens every account but the vault, once it was changed."""

    endpoints: Mapping[str, Mapping[str, str]]
    password: str
    admin: AdminAccess
    accounts: tuple[str, ...] = ACCOUNTS  # mail is delivered to them, and nothing else touches it
    witnesses: tuple[str, ...] = WITNESSES  # everything happens to their mailboxes, and they are read all the time
    vault: str = VAULT  # its password is changed again and again
    names: tuple[str, ...] = NAMES  # come and go, as accounts and as aliases

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(sorted(self.endpoints))

    def without(self, names: Iterable[str]) -> "Target":
        """The same, but for these nodes."""
        gone = set(names)
        return self._replace(endpoints={node: uses for node, uses in self.endpoints.items() if node not in gone})


def make_target(cluster: Cluster, tenant: str = "chaos") -> Target:
    """Makes a tenant and the accounts on a running cluster. Blocking; raises ClusterError."""
    password = cluster.add_accounts(tenant, (*ACCOUNTS, *WITNESSES, VAULT))
    endpoints = {node.name: node.endpoints for node in cluster.status().nodes}
    return Target(endpoints, password, AdminAccess.of_folder(cluster.folder))
