"""Roles, tokens and closed accounts on three nodes: in force everywhere at once, and still after kill -9."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from chaos.cluster import Cluster
from cli import layout
from cli.output import CommandError
from cli.token_client import TokenClient

ALICE, BOB = "alice@example.test", "bob@example.test"


def test_what_was_granted_revoked_and_closed_survives_the_death_of_every_node_in_turn(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.add_accounts("example", (ALICE, BOB))
        cluster.command("role", "grant", ALICE, "tenant-admin")
        kept = json.loads(cluster.command("token", "create", "--account", ALICE, "--json"))
        revoked = json.loads(cluster.command("token", "create", "--tenant", "example", "--json"))
        cluster.command("account", "disable", BOB, "--mail", "refuse", "--reason", "has left")
        assert _asked(cluster, revoked["token"]) == ["tenant-admin"] * 3
        cluster.command("token", "revoke", revoked["id"])
        for name in cluster.names():
            status = cluster.wait_settled()
            os.kill(status.node(name).pid, signal.SIGKILL)
            cluster.wait_ready(60.0)
        cluster.wait_settled()
        assert _asked(cluster, kept["token"]) == ["tenant-admin"] * 3
        assert _asked(cluster, revoked["token"]) == ["refused"] * 3
        state = json.loads(cluster.command("account", "state", BOB, "--json"))
        assert (state["state"], state["mail"], state["reason"]) == ("disabled", "refuse", "has left")


def _asked(cluster: Cluster, token: str) -> list[str]:
    """Whom each node takes the token's bearer for."""
    found = []
    client = TokenClient.of_folder(layout.load(cluster.folder), token)
    for name in cluster.names():
        try:
            found.append(client.get("/v1/whoami", name)["role"])
        except CommandError:
            found.append("refused")
    return found
