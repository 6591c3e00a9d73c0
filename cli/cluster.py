"""`mailraft cluster`: make a cluster on this machine, start it, watch it, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from cli import layout
from cli.client import AdminClient
from cli.cluster_health import health
from cli.cluster_token import rotate_certificates, token
from cli.groups import Group
from cli.layout import Cluster, Node
from cli.membership import add_node, remove_node, replace_node, transfer_leadership
from cli.options import DIR_NOTE, cluster_argument, json_option, nodes_argument, open_client
from cli.output import SPINNER_COLUMNS, CommandError, console, one_line, print_json, print_table, say
from cli.processes import is_taken, send, supervisor_pid, wait_until
from cli.restore import restore
from cli.rotate_ca import renew_admin, rotate_ca
from cli.rotate_key import rotate_key
from cli.supervisor import STOP_TIMEOUT_S, Supervisor, environment, program
from cli.watch import Seen, leader_of, look, problems, running_pid, status_json, wait_ready
from nodes.files import Locked, lock
from nodes.process import arguments

READY_TIMEOUT_S = 60.0
SHOWN_ENDPOINTS = ("smtp", "imap", "http")  # what fits beside each other in a terminal of 80 columns


@click.group(cls=Group)
def cluster() -> None:
    """Make, start, watch and stop a cluster on this machine."""


for command in (add_node, health, remove_node, replace_node, restore, rotate_certificates, token, transfer_leadership):
    cluster.add_command(command)


for command in (renew_admin, rotate_ca, rotate_key):
    cluster.add_command(command)


@cluster.command()
@click.argument("cluster_dir", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--nodes", type=click.Choice(["1", "3", "5"]), default="3", show_default=True, help="How many nodes.")
@click.option(
    "--base-port",
    type=click.IntRange(1024, 65535 - 5 * layout.PORTS_PER_NODE),
    default=20000,
    show_default=True,
    help=f"First port; each node takes {layout.PORTS_PER_NODE} from there.",
)
def init(cluster_dir: Path, nodes: str, base_port: int) -> None:
    """Write configuration, CA and certificates for a new cluster into DIR."""
    made = layout.create(cluster_dir, int(nodes), base_port)
    say(f"{cluster_dir}: {nodes} node{'s' if nodes != '1' else ''} of the cell {made.id}, ports from {base_port}")
    say(f"next: mailraft cluster up {cluster_dir}")


@cluster.command(epilog=DIR_NOTE)
@cluster_argument
@click.option("--detach", is_flag=True, help="Return when there is a leader and every node is ready.")
def up(cluster_dir: Path, detach: bool) -> None:
    """Start every node in DIR and keep it running; Ctrl-C stops all of them."""
    found = layout.load(cluster_dir)
    if detach:
        _start_detached(found)
    else:
        _supervise(found)


@cluster.command(epilog=DIR_NOTE)
@cluster_argument
def renew(cluster_dir: Path) -> None:
    """Write new certificates of the cluster's CA; nodes that run take them over without a restart."""
    found = layout.load(cluster_dir)
    layout.renew(found)
    for node in found.nodes:
        send(node, signal.SIGHUP)
    say(f"new certificates for {', '.join(node.name for node in found.nodes)} and the administrator")


@cluster.command(epilog=DIR_NOTE)
@nodes_argument
@json_option
def upgrade(cluster_dir: Path, as_json: bool) -> None:
    """After every node runs a new version: allow what it has introduced. Nodes of an older one can not come back."""
    done = open_client(cluster_dir).change("POST", "/v1/cluster/upgrade")
    if as_json:
        print_json(done)
    elif done["before"] == done["level"]:
        say(f"the cell is at feature level {done['level']} already")
    else:
        say(f"the cell is at feature level {done['level']}; it was at {done['before']}")


@cluster.command(epilog=DIR_NOTE)
@nodes_argument
@json_option
def status(cluster_dir: Path, as_json: bool) -> None:
    """Show every node: its process, its role, how far it is."""
    client = open_client(cluster_dir).every_node()
    seen = look(client.cluster, client)
    if as_json:
        print_json(status_json(seen))
        return
    columns = ("node", ">pid", "role", ">term", ">commit", ">applied", "chain", "ready")
    print_table(columns, (_row(one) for one in seen), "no nodes")
    click.echo()
    for one in seen:
        click.echo(f"{one.node.name}  " + "  ".join(_listens(one.node)))
        if not one.ready:
            click.echo(f"{one.node.name}  not ready: {one.why}")
        for name, standing in (one.answer or {}).get("filters", {}).items():
            if standing.startswith("down"):
                click.echo(f"{one.node.name}  filter {name} is {standing}")
        if one.answer is not None and one.answer["role"] == "quarantined":
            click.echo(f"{one.node.name}  try: mailraft cluster replace-node {cluster_dir} {one.node.name}")
    if leader := leader_of(seen):
        say(f"leader: {leader}")
    elif any(one.pid is not None for one in seen):
        say("no leader: writes wait until a majority of the nodes is up")
    else:
        say("no leader: nothing runs; mailraft cluster up DIR starts it")


@cluster.command(epilog=DIR_NOTE)
@cluster_argument
def down(cluster_dir: Path) -> None:
    """Stop every node in DIR, also those that a killed supervisor left behind."""
    found = layout.load(cluster_dir)
    supervised = _stop_supervisor(found)
    left = [node for node in found.nodes if running_pid(node) is not None]
    for node in left:
        send(node, signal.SIGTERM, signal.SIGCONT)
    wait_until(lambda: all(running_pid(node) is None for node in left), STOP_TIMEOUT_S)
    for node in left:
        send(node, signal.SIGKILL)
    if not wait_until(lambda: all(running_pid(node) is None for node in left), 5.0):
        names = ", ".join(f"{node.name} (pid {running_pid(node)})" for node in left if running_pid(node))
        raise CommandError(f"could not be stopped: {names}", "as the user who started them")
    say("stopped" if supervised or left else "nothing was running")


def _listens(node: Node) -> Iterator[str]:
    return (f"{use} {node.addresses[use]}" for use in SHOWN_ENDPOINTS if use in node.addresses)


def _row(one: Seen) -> tuple[object, ...]:
    answer = one.answer or {}
    chain = answer.get("chain")
    return (
        one.node.name,
        one.pid,
        answer.get("role"),
        answer.get("term"),
        answer.get("commit"),
        answer.get("applied"),
        chain[:12] if chain else None,
        one.ready,
    )


def _supervise(found: Cluster) -> None:
    """Runs the nodes in the foreground until a signal ends it."""
    with _supervisor_lock(found):
        _check_ports(found)
        finished = threading.Event()
        watcher = threading.Thread(target=_report_readiness, args=(found, finished), daemon=True)
        watcher.start()
        try:
            asyncio.run(Supervisor(found, say).run())
        finally:
            finished.set()
            watcher.join(timeout=5.0)
    say("stopped")


def _report_readiness(found: Cluster, finished: threading.Event) -> None:
    client = AdminClient(found)
    seen = _watched(found, client, lambda: not finished.is_set())
    if seen is not None:
        say(f"ready: leader {leader_of(seen)}; Ctrl-C stops it, mailraft cluster status {found.folder} shows it")
    elif not finished.is_set():
        say("not ready yet:\n  " + "\n  ".join(problems(look(found, client))))


def _start_detached(found: Cluster) -> None:
    client = AdminClient(found)  # or nobody could tell when they are ready
    with _supervisor_lock(found):
        _check_ports(found)
    with found.supervisor_log.open("ab") as log:
        process = subprocess.Popen(
            program("cluster", "up", str(found.folder)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
        )
    seen = _watched(found, client, lambda: process.poll() is None)
    if seen is None:
        if process.poll() is not None:
            raise CommandError(f"the supervisor ended with status {process.returncode}", f"read {found.supervisor_log}")
        text = "\n  ".join(["not every node is ready:", *problems(look(found, client))])
        raise CommandError(text, f"read node.log in the node's folder; mailraft cluster down {found.folder} stops all")
    say(f"ready: leader {leader_of(seen)}, supervisor pid {process.pid}; mailraft cluster down {found.folder} stops it")


def _watched(found: Cluster, client: AdminClient, alive: Callable[[], bool]) -> list[Seen] | None:
    terminal = console()
    with terminal.status("starting") as line:

        def progress(seen: list[Seen]) -> None:
            states = (f"{one.node.name} {'ready' if one.ready else one.why}" for one in seen)
            line.update(one_line("   ".join(states), terminal.width - SPINNER_COLUMNS))

        return wait_ready(found, client, READY_TIMEOUT_S, alive=alive, progress=progress)


@contextlib.contextmanager
def _supervisor_lock(found: Cluster) -> Iterator[None]:
    try:
        held = lock(found.lock_file)
    except Locked as holder:
        raise CommandError(
            f"{found.folder} is running already (supervisor pid {holder})", f"mailraft cluster status {found.folder}"
        ) from None
    except OSError as error:
        raise CommandError(
            f"{found.lock_file}: can not be written: {error.strerror}", "a disk that is not full or read-only"
        ) from None
    with held:
        running = [f"{node.name} (pid {running_pid(node)})" for node in found.nodes if running_pid(node)]
        if running:
            raise CommandError(
                f"running already without a supervisor: {', '.join(running)}", f"mailraft cluster down {found.folder}"
            )
        yield


def _check_ports(found: Cluster) -> None:
    taken = [
        f"{node.name}: {use} {address}"
        for node in found.nodes
        for use, address in node.addresses.items()
        if is_taken(address)
    ]
    if taken:
        text = "\n  ".join(["these addresses are in use by another program:", *taken])
        raise CommandError(text, "stop that program, or make the cluster with another --base-port")


def _stop_supervisor(found: Cluster) -> bool:
    """Ends the supervisor, which ends its nodes. False if none was running."""
    pid = supervisor_pid(found)
    if pid is None:
        return False
    for number, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S + 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        # it gives up the lock a moment before it is gone
        if wait_until(lambda: supervisor_pid(found) is None and not arguments(pid), patience_s):
            return True
    raise CommandError(f"the supervisor (pid {pid}) could not be stopped", "as the user who started it")
