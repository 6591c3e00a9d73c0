"""The command line far from the machine that a cell was made on: with a token and one node's address."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaos.cluster import Cluster, free_base_port
from cli.layout import load
from cli.supervisor import environment, program


class Far(NamedTuple):
    """A folder of its own with the cell's CA and a token; `address` is all that is known of the nodes."""

    cluster: Cluster
    folder: Path
    address: str

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def environment(self) -> dict[str, str]:
        token = {"MAILRAFT_TOKEN_FILE": str(self.folder / "token"), "MAILRAFT_CA": str(self.ca)}
        return {**environment(), **token, "MAILRAFT_CLUSTER": self.address}

    def begin(self, *words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            program(*words), cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True
        )

    def command(self, *words: str) -> str:
        with self.begin(*words) as process:
            out, err = process.communicate(timeout=90)
        assert process.returncode == 0, (words, err)
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self.command(*words, "--json"))

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("cluster", "status")["nodes"]
        return found

    def refused(self, *words: str) -> str:
        with self.begin(*words) as process:
            out, err = process.communicate(timeout=90)
        assert process.returncode != 0, out
        return err


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("far")
    with Cluster(tmp_path_factory.mktemp("cell") / "cluster", nodes=1) as cluster:
        made = json.loads(cluster.command("token", "create", "--cluster-wide", "--role", "cluster-admin", "--json"))
        cluster.command("cluster", "rotate-certificates", str(cluster.folder))  # the authority is in the log from here
        (folder / "token").write_text(made["token"])
        (folder / "ca.pem").write_text((cluster.folder / "ca" / "ca.pem").read_text())
        yield Far(cluster, folder, load(cluster.folder).nodes[0].addresses["admin"])


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """A node that was added, once its folder is there."""
    until((folder / "mailraft.toml").exists)
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            program("node", "run", "--config", str(folder / "mailraft.toml")), stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def finished(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return json.loads(out)


def test_a_node_is_added_replaced_and_removed(far: Far) -> None:
    second, third = far.folder / "second", far.folder / "third"
    where = ("--host", "127.0.0.1", "--base-port")
    adding = far.begin("cluster", "add-node", "--folder", str(second), *where, str(free_base_port(1)), "--json")
    with running(second):
        assert finished(adding)["name"] == "n2"
        serving = [("n1", True, True), ("n2", True, True)]
        until(lambda: [(one["name"], one["alive"], "imap" in one["endpoints"]) for one in far.nodes()] == serving)
        words = ("n2", "--folder", str(third), *where, str(free_base_port(1)), "--json")
        replacing = far.begin("cluster", "replace-node", far.address, *words)
        with running(third):
            assert [one["name"] for one in finished(replacing)["members"]] == ["n1", "n3"]
            until(lambda: "removed from the cell" in (second / "node.log").read_text())
            far.command("cluster", "transfer-leadership", far.address, "n1")
            far.command("cluster", "remove-node", far.address, "n3")
    assert [one["name"] for one in far.nodes()] == ["n1"]
    far.command("cluster", "remove-node", far.address, "n3")  # given again: it is so
    assert "--folder" in far.refused("cluster", "add-node")


def test_the_authority_is_rotated_by_a_node_once_its_followers_are_provided_for(far: Far) -> None:
    """The file with what is trusted is written anew; a follower keeps it from being retired until it is revoked."""
    far.command("tenant", "add", "example", "--domain", "example.test")
    file = far.folder / "north.grant"
    far.command("region", "grant", "north", "--tenant", "example", "--out", str(file))
    assert set(json.loads(file.read_text())["endpoints"]) == {"n1"}
    before = far.ca.read_text()
    kept = far.json("cluster", "rotate-ca", "--keep-old")
    assert (kept["next"], bool(kept["former"]), kept["followers"]) == (None, True, ["north"])
    assert before in far.ca.read_text()
    assert "certificates of the authority before: north" in far.refused("cluster", "rotate-ca", "--yes")
    far.command("region", "revoke", "north")
    assert [one["state"] for one in far.json("region", "grants")["grants"]] == ["revoked"]
    done = far.json("cluster", "rotate-ca", "--yes")
    assert (done["former"], done["in_force"]) == (None, kept["in_force"])
    assert before not in far.ca.read_text()
    assert far.json("cluster", "status")["leader"] == "n1"
    # the machine with the folder comes after: its certificate is of the authority before, and is refused
    assert "no node could do it" in _refused_here(far.cluster)


def _refused_here(cluster: Cluster) -> str:
    words = program("tenant", "list", "--cluster", str(cluster.folder))
    return subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=60).stderr


def test_a_backup_is_made_and_compared_with_the_cell(far: Far) -> None:
    backup = str(far.folder / "backup")
    made = far.json("backup", "create", backup, "--unencrypted")
    assert made["position"] >= 1
    assert far.json("backup", "verify", backup, "--against", far.address)["compared"]
