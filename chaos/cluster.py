"""A cluster of real processes for a scenario, a benchmark or a test: made, started, watched and ended for certain.

It goes through the `mailraft` command only, as an operator would: the supervisor of `cluster up` restarts what a fault
kills, so what is measured is what a user gets. `apart` gives each node a supervisor of its own, as on a machine of its
own. Whatever happens, `stop` leaves no process behind.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import tomli_w

from chaos.network import Network
from chaos.ports import NoPorts, PortBlocks
from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from cli.supervisor import environment, program
from cli.watch import Seen, leader_of, look
from nodes.files import write_atomically
from nodes.process import end_with_parent

PORTS_PER_NODE = 20
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0  # above what the supervisor grants its nodes
COMMAND_TIMEOUT_S = 60.0
TOGETHER = ""  # the supervisor of all nodes


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

    def without(self, names: Collection[str]) -> "ClusterStatus":
        """The same, of the other nodes."""
        return ClusterStatus(self.leader, tuple(node for node in self.nodes if node.name not in names))

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


_blocks = PortBlocks(range(11000, 31000), PORTS_PER_NODE)  # below the range that the kernel hands to clients


def free_base_port(nodes: int) -> int:
    """A port that starts a block of free ones for so many nodes, which nobody else is given. Raises ClusterError."""
    try:
        return _blocks.take(nodes * PORTS_PER_NODE)
    except NoPorts as none:
        raise ClusterError(str(none)) from none


@dataclass
class Cluster:
    """`with Cluster(folder) as cluster:` makes the folder if need be, starts all nodes, and stops them at the end.

    `environment` is added to the nodes' own (MAILRAFT_SECTION_KEY overrides the configuration). With `apart`, a node
    can be stopped and started by itself; `own_environment` is then added to that of one node, and `wrapper` stands
    before its supervisor's command line. With a `network`, which the caller starts and stops, nodes reach each other
    through its relays.
    """

    folder: Path
    nodes: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False
    network: Network | None = None
    own_environment: dict[str, Mapping[str, str]] = field(default_factory=dict)
    wrapper: dict[str, list[str]] = field(default_factory=dict)
    _supervisors: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
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
            self.make()
            self._check_not_ended()
            if self.network is not None:
                self._connect_through(self.network)
            for one in self.names() if self.apart else (TOGETHER,):
                self._supervise(one)
            self.wait_ready(START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def make(self) -> None:
        """Makes the cluster's folder if there is none yet."""
        if not (self.folder / layout.CLUSTER_FILE).exists():
            base_port = str(free_base_port(self.nodes))
            self.command("cluster", "init", str(self.folder), "--nodes", str(self.nodes), "--base-port", base_port)

    def names(self) -> list[str]:
        return [node.name for node in self._layout().nodes]

    def supervised(self) -> list[str]:
        """Nodes that are apart and were not stopped by stop_node()."""
        return list(self._supervisors)

    def start_node(self, name: str) -> None:
        """Starts a node that stop_node() stopped; does not wait for it. For nodes that are apart."""
        self._check_not_ended()
        self._supervise(name)

    def stop_node(self, name: str) -> None:
        """Stops a node in order, and keeps it stopped. For nodes that are apart."""
        self._end_supervisor(name)

    def configuration(self, node: str) -> dict[str, Any]:
        """What a node's file says."""
        return tomllib.loads(self._layout().node(node).config.read_text())

    def configure(self, node: str, section: str, values: Mapping[str, Any]) -> None:
        """Sets keys of a node's configuration, which it reads when it starts; None removes a key."""
        document = self.configuration(node)
        table = document.setdefault(section, {})
        table.update(values)
        document[section] = {key: value for key, value in table.items() if value is not None}
        write_atomically(self._layout().node(node).config, tomli_w.dumps(document).encode())

    def _layout(self) -> layout.Cluster:
        try:
            return layout.load(self.folder)
        except CommandError as error:
            raise ClusterError(str(error)) from error

    def _connect_through(self, network: Network) -> None:
        plan = network.connect(self._layout().nodes)
        for name, listen in plan.listen.items():
            self.configure(name, "raft", {"listen": listen, "peers": plan.peers})
        self.wrapper.update(plan.wrapper)

    def _supervise(self, one: str) -> None:
        folder = self.folder if one == TOGETHER else self.machine(one)
        with open(folder / "supervisor.log", "ab") as log:
            self._supervisors[one] = subprocess.Popen(
                [*self.wrapper.get(one, ()), *program("cluster", "up", str(folder))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment_of(one),
                start_new_session=True,  # a Ctrl-C is for whoever started us; we end the cluster in our own order
                preexec_fn=partial(end_with_parent, os.getpid()),  # and if we are killed, the kernel ends it
            )

    def _environment_of(self, one: str) -> dict[str, str]:
        own = {**self.environment, **self.own_environment.get(one, {})}
        ours = environment()
        paths = [own.get("PYTHONPATH", ""), ours["PYTHONPATH"]]  # both: this code must be found in any case
        return {**ours, **own, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def machine(self, name: str) -> Path:
        """A folder in which `cluster up` finds this node alone."""
        folder = self.folder / "machines" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            for shared in ("ca", "admin"):
                (folder / shared).symlink_to(self.folder / shared)
            document = tomllib.loads((self.folder / layout.CLUSTER_FILE).read_text())
            entry = document["nodes"][name]
            document["nodes"] = {name: {**entry, "folder": str(self.folder / entry["folder"])}}
            write_atomically(folder / layout.CLUSTER_FILE, tomli_w.dumps(document).encode())
        return folder

    def command(self, *arguments: str, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Runs one `mailraft` command against this cluster; what it printed. Raises ClusterError if it fails."""
        try:
            done = subprocess.run(
                program(*arguments),
                input=stdin,
                capture_output=True,
                text=True,
                env={**environment(), "MAILRAFT_CLUSTER": str(self.folder)},
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as late:
            raise ClusterError(f"mailraft {' '.join(arguments)}: nothing within {timeout_s:.0f} s") from late
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
        found = self._layout()
        try:
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
            self._check_supervisors()
            try:
                last = self.status()
                if reached(last):
                    return last
            except ClusterError as error:  # not up yet
                last = error
            time.sleep(0.2)
        raise ClusterError(f"waited {timeout_s:.0f} s for {what}; last: {last}\n{self._said()}")

    def wait_ready(self, timeout_s: float) -> ClusterStatus:
        """The status once there is a leader and every node is ready."""
        return self.wait_for(lambda status: status.all_ready and status.leader is not None, timeout_s, "a leader")

    def wait_settled(self, timeout_s: float = 60.0, lost: Collection[str] = ()) -> ClusterStatus:
        """The status once every node that is not lost is alive and has applied the same position."""
        settled = self.wait_for(lambda status: status.without(lost).settled, timeout_s, "all nodes at one position")
        return settled.without(lost)

    def stop(self) -> None:
        """Ends every process of the cluster: gracefully, then by SIGKILL. Safe to call twice, from any thread."""
        self._ended = True  # a start or a wait in another thread gives up
        with self._stopping:
            for supervisor in list(self._supervisors.values()):
                supervisor.send_signal(signal.SIGTERM)  # all at once; does nothing to one that was waited for
            for name in list(self._supervisors):
                self._end_supervisor(name)
            for pid in self._own_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _end_supervisor(self, name: str) -> None:
        supervisor = self._supervisors.pop(name, None)
        if supervisor is None:
            return
        supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()

    def _check_supervisors(self) -> None:
        if not self._supervisors or any(one.poll() is not None for one in self._supervisors.values()):
            raise ClusterError(f"the supervisor ended:\n{self._said()}")

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

    def _said(self) -> str:
        """The end of what the supervisors said."""
        logs = [self.folder / "supervisor.log", *sorted(self.folder.glob("machines/*/supervisor.log"))]
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())
