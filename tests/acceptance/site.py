"""A running cluster with accounts, as the acceptance tests see it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.cluster import Cluster

ALICE, BOB, CAROL = "alice@example.test", "bob@example.test", "carol@example.test"


@dataclass(frozen=True)
class Site:
    """A running cluster with accounts, and the password that they share."""

    cluster: Cluster
    password: str

    def endpoints(self, use: str) -> list[str]:
        """host:port of one protocol on every node."""
        return [node.endpoints[use] for node in self.cluster.status().nodes]

    @property
    def ca(self) -> Path:
        return self.cluster.folder / "ca" / "ca.pem"


def need(program: str) -> str:
    """The path of one of Debian's programs; without it the test is skipped (scripts/debian-packages brings it)."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed: scripts/debian-packages")
    return path
