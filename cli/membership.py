"""`mailraft cluster add-node, remove-node, replace-node, transfer-leadership`: nodes that come and go while mail flows.

What the cell should be is compared with what it is, and asked for until it is so: every command can be interrupted
and given again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cli import layout, layout_changes
from cli.client import AdminClient, NothingDone, Refusing, Unreachable
from cli.layout import Cluster, Node
from cli.membership_joining import folder_options, joined
from cli.options import DIR_NOTE, AtCluster, complete_node, json_option, nodes_argument, open_client
from cli.output import SPINNER_COLUMNS, UNKNOWN, CommandError, console, one_line, print_json, say
from cli.paths import api_path
from cli.processes import send, supervisor_pid, wait_until
from cli.supervisor import STOP_TIMEOUT_S, WATCH_S, last_words
from cli.token_client import is_address
from cli.watch import leader_of, look, running_pid

CHANGE_TIMEOUT_S = 60.0
LEAD_TIMEOUT_S = 15.0
GONE_AFTER_S = 30.0  # a node that nobody starts, or that ends again and again
LOOK_EVERY_S = 0.3
HEARD_WITHIN_S = 3.0  # of a node that has just come; each tells the others every second how it does

Members = dict[str, dict[str, Any]]  # by name: name, address, voter
Show = Callable[[str], None]

delete_option = click.option("--delete-data", is_flag=True, help="Delete its folder too; otherwise it stays as it is.")
force_option = click.option(
    "--force-dead", is_flag=True, help="Although too few of the nodes that stay answer here: the cell itself decides."
)
host_option = click.option("--host", help="Where the node will run, if not here: copy its folder there and start it.")
name_argument = click.argument("name", metavar="NAME", shell_complete=complete_node)


@click.command(epilog=DIR_NOTE)
@nodes_argument
@click.option("--name", help="Its name; otherwise the next number, as n4.")
@host_option
@folder_options
@json_option
def add_node(
    cluster_dir: Path, name: str | None, host: str | None, folder: Path | None, base_port: int, as_json: bool
) -> None:
    """Add a node: it learns all that the cell has, then it votes. Given again, it goes on where it was."""
    client = open_client(cluster_dir).every_node()
    if is_address(cluster_dir):
        node = joined(client, name, host, folder, base_port)
    else:
        _only_elsewhere(folder)
        found = client.cluster
        node = _chosen(found, name, _members(client)) or _written(found, name, host)
    _report(node, _bring_in(cluster_dir, node), as_json)


@click.command(cls=AtCluster, epilog=DIR_NOTE)
@nodes_argument
@name_argument
@force_option
@delete_option
def remove_node(cluster_dir: Path, name: str, force_dead: bool, delete_data: bool) -> None:
    """Take a node out of the cell, then stop it. Its name is not used again."""
    _take_out(cluster_dir, name, force_dead, delete_data)


@click.command(cls=AtCluster, epilog=DIR_NOTE)
@nodes_argument
@name_argument
@host_option
@folder_options
@delete_option
@json_option
def replace_node(
    cluster_dir: Path,
    name: str,
    host: str | None,
    folder: Path | None,
    base_port: int,
    delete_data: bool,
    as_json: bool,
) -> None:
    """Put a new node in the place of NAME, which is dead or quarantined. Given again, it goes on where it was."""
    client = open_client(cluster_dir).every_node()
    found = client.cluster
    if name in found.removed:
        say(f"{name} is no node of this cell any more")
        return
    found.node(name)
    if is_address(cluster_dir):
        new = joined(client, None, host, folder, base_port)
    else:
        _only_elsewhere(folder)
        new = next((node for node in found.nodes if node.replaces == name), None) or _written(found, None, host, name)
    members = _bring_in(cluster_dir, new)
    if not as_json:
        _report(new, members, False)  # before the other goes: there are never fewer that vote
    _take_out(cluster_dir, name, False, delete_data)
    if as_json:
        _report(new, _members(open_client(cluster_dir)), True)


def _only_elsewhere(folder: Path | None) -> None:
    if folder is not None:
        raise click.UsageError("--folder goes with HOST:PORT: in the folder of a cluster the node's is DIR/NAME.")


@click.command(cls=AtCluster, epilog=DIR_NOTE)
@nodes_argument
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_node)
def transfer_leadership(cluster_dir: Path, name: str | None) -> None:
    """Have the node NAME lead; without a name the one that is furthest."""
    client = open_client(cluster_dir).every_node()
    found = client.cluster
    target = found.node(name).name if name else _furthest(found, client)
    deadline = time.monotonic() + LEAD_TIMEOUT_S
    while leader_of(look(found, client)) != target:
        if time.monotonic() > deadline:
            raise CommandError(f"{target} does not lead", f"mailraft cluster status {found.folder}")
        client.change("POST", api_path("/v1/members/{}/lead", target))
        wait_until(lambda: leader_of(look(found, client)) == target, 3.0)
    say(f"leader: {target}")


# -- coming --------------------------------------------------------------------------------------------------------


def _chosen(found: Cluster, name: str | None, members: Members) -> Node | None:
    """The node that an earlier call of this command began with; None if there is none."""
    if name is not None:
        return next((node for node in found.nodes if node.name == name), None)
    unfinished = [node for node in found.nodes if not _votes(members, node.name) and not node.replaces]
    return unfinished[0] if unfinished else None


def _written(found: Cluster, name: str | None, host: str | None, replaces: str = "") -> Node:
    """A new node: its folder, then its place in cluster.toml, which has the supervisor start it."""
    node = layout_changes.write(found, name or layout_changes.next_name(found), host, replaces)
    layout.save(layout_changes.with_node(found, node))
    say(f"{node.name}: its folder is {node.folder}")
    return node


def _bring_in(cluster_dir: Path, node: Node) -> Members:
    """Returns when the node votes. Raises CommandError."""
    client = open_client(cluster_dir).every_node()
    found = client.cluster
    with _progress(node.name, f"mailraft cluster remove-node {cluster_dir} {node.name} takes it out again") as show:
        _until(
            client,
            lambda members: node.name in members,
            lambda: client.change("POST", "/v1/members", {"name": node.name, "address": node.addresses["raft"]}),
        )
        if supervisor_pid(found) is None:
            say(f"no supervisor runs here: start it where it belongs: mailraft node run --config {node.config}")
        return _wait_until_it_votes(found, client, node, show)


def _wait_until_it_votes(found: Cluster, client: AdminClient, node: Node, show: Show) -> Members:
    seen_s = time.monotonic()
    while True:
        try:
            answer = client.status(node)
        except Refusing as failure:  # with a token, while it learns who that is
            seen_s = time.monotonic()
            show(str(failure))
        except Unreachable as failure:
            show(str(failure) if running_pid(node) is not None else "not running")
            if time.monotonic() - seen_s > GONE_AFTER_S:
                raise _does_not_run(found, node) from None
        else:
            seen_s = time.monotonic()
            if answer["role"] == "quarantined":
                raise CommandError("; ".join(answer["reasons"]), f"mailraft cluster replace-node DIR {node.name}")
            show("; ".join(answer["reasons"]) or f"it has {answer['applied']} of {answer['commit']} positions")
            if answer["ready"] and answer["role"] != "learner" and _votes(members := _members(client), node.name):
                return members
        time.sleep(LOOK_EVERY_S)


def _does_not_run(found: Cluster, node: Node) -> CommandError:
    words = last_words(node.log_file)
    again = f"read {node.log_file}"
    if supervisor_pid(found) is None:
        up = f"mailraft cluster up {found.folder}"
        again = up if found.file.exists() else f"mailraft node run --config {node.config}"
    return CommandError(f"{node.name} does not run" + (f": {words}" if words else ""), f"{again}; then this again")


@contextmanager
def _progress(name: str, way_back: str) -> Iterator[Show]:
    """A line that tells how far it is. Ctrl-C ends the waiting only, and says so."""
    terminal = console()
    try:
        with terminal.status(name) as line:
            yield lambda text: line.update(one_line(f"{name}: {text}", terminal.width - SPINNER_COLUMNS))
    except KeyboardInterrupt:
        raise CommandError(
            f"interrupted: {name} goes on by itself", f"the same command again waits for it; {way_back}"
        ) from None


def _report(node: Node, members: Members, as_json: bool) -> None:
    if as_json:
        print_json({"name": node.name, "folder": str(node.folder), "members": list(members.values())})
        return
    say(f"{node.name} votes; the cell: {', '.join(members)}")


# -- going ---------------------------------------------------------------------------------------------------------


def _take_out(cluster_dir: Path, name: str, force_dead: bool, delete_data: bool) -> None:
    """Returns when the cell has committed it; with its folder here, when the node has stopped and cluster.toml does
    not name it."""
    known = open_client(cluster_dir).every_node()
    found = known.cluster
    if delete_data and is_address(cluster_dir):
        raise click.UsageError("--delete-data goes with DIR: nothing of a node at HOST:PORT is on this machine.")
    if name in found.removed:
        say(f"{name} is no node of this cell any more")
        return
    node = found.node(name)
    client = known.without(name)  # the node itself may end before it has answered
    if not client.cluster.nodes:
        raise CommandError(f"{name} is the only node", f"mailraft cluster down {found.folder}")
    members = _members(client)
    if name in members and not force_dead:
        _check_majority(cluster_dir, client, members, name)
    with console().status(f"removing {name}"):
        members = _until(
            client,
            lambda members: name not in members,
            lambda: client.change("DELETE", api_path("/v1/members/{}", name)),
        )
    if is_address(cluster_dir):
        say(f"{name} is out; the cell: {', '.join(members)}; it serves nobody any more: stop it where it runs")
        return
    layout.save(layout_changes.without_node(found, name))
    _stop(found, node)
    if delete_data:
        layout_changes.delete_folder(node)
    say(
        f"{name} is out; the cell: {', '.join(members)}" + ("" if delete_data else f"; its folder stays: {node.folder}")
    )


def _check_majority(cluster_dir: Path, client: AdminClient, members: Members, name: str) -> None:
    left = [one for one in members if one != name and _votes(members, one)]
    patience_s = HEARD_WITHIN_S if is_address(cluster_dir) else 0.0
    live: set[str] = set()

    def enough() -> bool:
        live.update(_heard(client) if is_address(cluster_dir) else _answering(client))
        return len(live.intersection(left)) > len(left) // 2

    if not wait_until(enough, patience_s):
        said = f"without {name} the cell needs {len(left) // 2 + 1} of {', '.join(left)}"
        raise CommandError(f"{said}, and {len(live.intersection(left))} of them answer", "start them, or --force-dead")


def _answering(client: AdminClient) -> set[str]:
    return {one.node.name for one in look(client.cluster, client) if one.answer and one.answer["applied"] is not None}


def _heard(client: AdminClient) -> set[str]:
    """Not every node may be reached from here: whom the others hear of counts."""
    return {one["name"] for one in client.get("/v1/health")["nodes"] if one["heard"]}


def _stop(found: Cluster, node: Node) -> None:
    """Returns when it has ended, and no supervisor starts it again."""
    if supervisor_pid(found) is None:
        send(node, signal.SIGTERM, signal.SIGCONT)
    else:
        time.sleep(2 * WATCH_S)  # by then it has seen that the node is gone from cluster.toml
    if not wait_until(lambda: running_pid(node) is None, STOP_TIMEOUT_S):
        send(node, signal.SIGKILL)


# -- what the cell is ----------------------------------------------------------------------------------------------


def _members(client: AdminClient) -> Members:
    return {member["name"]: member for member in client.get("/v1/members")["members"]}


def _votes(members: Members, name: str) -> bool:
    return name in members and bool(members[name]["voter"])


def _until(client: AdminClient, done: Callable[[Members], bool], ask: Callable[[], Any]) -> Members:
    """Asks until it is done; whether it is, the cell says. Raises CommandError."""
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    while True:
        try:
            if done(members := _members(client)):
                return members
            ask()
        except CommandError as error:
            passing = isinstance(error, NothingDone) or error.exit_code == UNKNOWN
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_S)


def _furthest(found: Cluster, client: AdminClient) -> str:
    """The voter that has applied most, the leader aside."""
    members, seen = _members(client), look(found, client)
    leader = leader_of(seen)
    able = [
        (one.answer["applied"], one.node.name)
        for one in seen
        if one.answer and one.ready and one.node.name != leader and _votes(members, one.node.name)
    ]
    if not able:
        raise CommandError("no other node can lead now", f"mailraft cluster status {found.folder}")
    return max(able)[1]
