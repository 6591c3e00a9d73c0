"""A cluster of real processes for a scenario, a benchmark or a test: made, started, watched and ended for certain.

It goes through the `mailraft` command only, as an operator would: the supervisor of `cluster up` restarts what a fault
kills, so what is measured is what a user gets. Whatever happens, `stop` leaves no process behind.
"""

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from cli.supervisor import environment, program
from cli.watch import Seen, leader_of, look
from nodes.process import end_with_parent

PORTS_PER_NODE = 20
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0  # above what the supervisor grants its nodes
COMMAND_TIMEOUT_S = 60.0


class ClusterError(Exception):
    """A command failed or the cluster did not reach a state in time; the text says which, and what was printed."""


class NodeStatus(NamedTuple):
    """One node, as `cluster status` sees it; what a dead node can not say is empty or 0."""

    name: str
    alive: bool
    ready: bool
    pid: int
    role: str
    term: int
    applied: int
    chain: str
    endpoints: Mapping[str, str]


class ClusterStatus(NamedTuple):
    """The cluster, as `cluster status` sees it."""

    leader: str | None
    nodes: tuple[NodeStatus, ...]

    def node(self, name: str) -> NodeStatus:
        return next(node for node in self.nodes if node.name == name)

    @property
    def all_ready(self) -> bool:
        return all(node.alive and node.ready for node in self.nodes)

    @property
    def settled(self) -> bool:
        """All answer, a leader is known, and all are at the same position; a full disk does not stand against it."""
        answering = all(node.alive and node.role for node in self.nodes)
        return self.leader is not None and answering and len({node.applied for node in self.nodes}) == 1


def _node_status(one: Seen) -> NodeStatus:
    answer = one.answer or {}
    return NodeStatus(
        one.node.name,
        one.pid is not None,
        one.ready,
        one.pid or 0,
        answer.get("role") or "",
        answer.get("term") or 0,
        answer.get("applied") or 0,
        answer.get("chain") or "",
        one.node.addresses,
    )


def free_base_port(nodes: int) -> int:
    """A port that starts a block of free ones on loopback, below the range that the kernel hands to clients."""
    for _ in range(200):
        base = random.randrange(11000, 31000, PORTS_PER_NODE)
        if all(_is_free(base + offset) for offset in range(nodes * PORTS_PER_NODE)):
            return base
    raise ClusterError("no block of free ports between 11000 and 31000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass
class Cluster:
    """`with Cluster(folder) as cluster:` makes the folder if need be, starts all nodes, and stops them at the end.

    `environment` is added to the nodes' own (MAILRAFT_SECTION_KEY overrides the configuration).
    """

    folder: Path
    nodes: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    _supervisor: subprocess.Popen[bytes] | None = None
    _ended: bool = False
    _stopping: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when every node answers and a leader is known. Raises ClusterError, leaving nothing behind."""
        self._ended = False
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        if not (self.folder / "cluster.toml").exists():
            base_port = str(free_base_port(self.nodes))
            self.command("cluster", "init", str(self.folder), "--nodes", str(self.nodes), "--base-port", base_port)
        self._check_not_ended()
        with open(self.folder / "supervisor.log", "ab") as log:
            self._supervisor = subprocess.Popen(
                program("cluster", "up", str(self.folder)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment(), **self.environment},
                start_new_session=True,  # a Ctrl-C is for whoever started us; we end the cluster in our own order
                preexec_fn=partial(end_with_parent, os.getpid()),  # and if we are killed, the kernel ends it
            )
        self.wait_for(lambda status: status.all_ready and status.leader is not None, START_TIMEOUT_S, "a leader")

    def command(self, *arguments: str, stdin: str = "") -> str:
        """Runs one `mailraft` command against this cluster; what it printed. Raises ClusterError if it fails."""
        try:
            done = subprocess.run(
                program(*arguments),
                input=stdin,
                capture_output=True,
                text=True,
                env={**environment(), "MAILRAFT_CLUSTER": str(self.folder)},
                timeout=COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as late:
            raise ClusterError(f"mailraft {' '.join(arguments)}: nothing within {COMMAND_TIMEOUT_S:.0f} s") from late
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise ClusterError(f"mailraft {' '.join(arguments)}: exit {done.returncode}: {said}")
        return done.stdout

    def add_accounts(self, tenant: str, addresses: tuple[str, ...]) -> str:
        """Makes a tenant with the addresses' domain and the accounts, all with one new password, which it returns."""
        password = secrets.token_urlsafe(12)
        self.command("tenant", "add", tenant, "--domain", addresses[0].partition("@")[2])
        for address in addresses:
            self.command("account", "add", address, "--password-stdin", stdin=password + "\n")
        return password

    def status(self) -> ClusterStatus:
        """What `cluster status` would show now. Raises ClusterError."""
        try:
            found = layout.load(self.folder)
            seen = look(found, AdminClient(found))
        except CommandError as error:
            raise ClusterError(str(error)) from error
        return ClusterStatus(leader_of(seen), tuple(map(_node_status, seen)))

    def data_dir(self, node: str) -> Path:
        """The folder of a node's database."""
        return self.folder / node / "data"

    def wait_for(self, reached: Callable[[ClusterStatus], bool], timeout_s: float, what: str) -> ClusterStatus:
        """The first status for which `reached` holds. Raises ClusterError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        last: ClusterStatus | ClusterError | None = None
        while time.monotonic() < deadline:
            self._check_not_ended()
            if self._supervisor is None or self._supervisor.poll() is not None:
                raise ClusterError(f"the supervisor ended:\n{self._tail('supervisor.log')}")
            try:
                last = self.status()
                if reached(last):
                    return last
            except ClusterError as error:  # not up yet
                last = error
            time.sleep(0.2)
        raise ClusterError(f"waited {timeout_s:.0f} s for {what}; last: {last}\n{self._tail('supervisor.log')}")

    def wait_settled(self, timeout_s: float = 60.0) -> ClusterStatus:
        """The status once every node is alive and has applied the same position."""
        return self.wait_for(lambda status: status.settled, timeout_s, "all nodes at one position")

    def stop(self) -> None:
        """Ends every process of the cluster: gracefully, then by SIGKILL. Safe to call twice, from any thread."""
        self._ended = True  # a start or a wait in another thread gives up
        with self._stopping:
            self._end_supervisor()
            for pid in self._own_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _end_supervisor(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.send_signal(signal.SIGTERM)  # does nothing to one that has ended and was waited for
        try:
            supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()

    def _check_not_ended(self) -> None:
        if self._ended:
            raise ClusterError("the cluster was stopped")

    def _own_processes(self) -> Iterator[int]:
        """Processes whose command line names this folder: it is ours alone, so they are ours."""
        marker = os.fsencode(str(self.folder)) + b"/"
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if any(word.startswith(marker) for word in words) and b"python" in words[0]:
                        yield int(entry.name)

    def _tail(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / name).read_text(errors="replace")[-2000:]
        return ""
