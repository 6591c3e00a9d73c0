"""Checks of a cluster that a user runs: nothing is broken, nothing is written, everything is asked of its admin API.

All nodes are compared at one position that each of them has folded, so mail may go on meanwhile. What a mailbox looked
like there is folded from each node's own log; that a node's tables are what its log says is shown by its refold.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any
from urllib.parse import quote

from chaos.checkers import Check, Violation
from chaos.checkers.log import NodeHead, check_heads
from cli.client import AdminClient
from cli.layout import Cluster
from cli.output import CommandError
from cli.watch import Seen, look

NAME = "read-only"
Views = Mapping[str, Any]  # what each node says of one mailbox
Step = Callable[[str, int, int], None]  # what is looked at, done, of how many


def inspect(cluster: Cluster, client: AdminClient, accounts: int, seed: int, progress: Step) -> list[Check]:
    """Every check; all but the first are open where a node does not answer.

    At most `accounts` mailboxes are compared, chosen by the seed. Raises CommandError.
    """
    seen = look(cluster, client)
    answering = [one for one in seen if one.answer is not None and one.answer.get("applied")]
    if not answering:
        raise CommandError(f"no node of {cluster.folder} answers", f"mailraft cluster status {cluster.folder}")
    names = [one.node.name for one in answering]
    position = min(one.answer["applied"] for one in answering if one.answer is not None)
    unasked = tuple(f"{one.node.name} does not answer" for one in seen if one not in answering)
    heads = [_head(client, name, position) for name in names]
    chosen = _chosen(client, names[0], accounts, seed)
    return [
        Check("every node answers and is ready", list(_unready(seen))),
        Check(f"the chain at position {position} is equal on every node", check_heads(heads), unasked),
        Check("every node's log verifies", list(_jobs(client, names, "verify", _unproven, progress)), unasked),
        Check("every node's tables equal a refold", list(_jobs(client, names, "rebuild", _unequal, progress)), unasked),
        Check(
            f"{len(chosen)} mailboxes are equal on every node at position {position}, their UIDs increasing",
            list(_mailboxes(client, names, chosen, position, progress)),
            unasked,
        ),
    ]


def _unready(seen: list[Seen]) -> Iterator[Violation]:
    for one in seen:
        if not one.ready:
            yield Violation(NAME, one.node.name, f"not ready: {one.why}")


def _head(client: AdminClient, node: str, position: int) -> NodeHead:
    try:
        return NodeHead(node, position, client.get(f"/v1/log/{position}", node).get("chain") or "")
    except CommandError:  # a damaged node may not even find it: it has not that head
        return NodeHead(node, position, "")


def _chosen(client: AdminClient, node: str, most: int, seed: int) -> list[str]:
    known = sorted(account["address"] for account in client.pages("/v1/accounts", "accounts", node))
    return known if len(known) <= most else sorted(Random(seed).sample(known, most))


def _jobs(
    client: AdminClient, nodes: list[str], job: str, judge: Callable[[dict[str, Any]], str], progress: Step
) -> Iterator[Violation]:
    """One node after the other: a proof takes a core, and the others go on serving."""
    for node in nodes:
        last: dict[str, Any] = {}
        try:
            for last in client.stream(f"/v1/log/{job}", node):
                if "progress" in last:
                    progress(f"{job} {node}", *last["progress"])
        except CommandError as error:
            last = {"error": str(error)}
        text = judge(last["result"]) if "result" in last else last.get("error", "the node stopped before it was done")
        if text:
            yield Violation(NAME, node, text)


def _unproven(report: dict[str, Any]) -> str:
    return "" if report["ok"] else f"damaged at position {report['first_bad']}: {'; '.join(report['problems'])}"


def _unequal(report: dict[str, Any]) -> str:
    return "" if report["equal"] else f"tables that are not what the log says: {', '.join(report['differing'])}"


def _mailboxes(
    client: AdminClient, nodes: list[str], accounts: list[str], position: int, progress: Step
) -> Iterator[Violation]:
    able = list(nodes)
    for number, account in enumerate(accounts):
        progress("mailboxes", number, len(accounts))
        path = f"/v1/mailboxes/{quote(account, safe='')}?position={position}"
        views: dict[str, Any] = {}
        for node in tuple(able):
            try:
                views[node] = _view(client, path, node)
            except (CommandError, ValueError) as error:  # no answer, or one that ends in the middle
                able.remove(node)  # what is wrong with it would be said of every mailbox
                yield Violation(NAME, node, f"{account} can not be shown: {error}")
        if views:
            yield from differences(account, views)
            yield from unordered(account, next(iter(views)), next(iter(views.values())))
    progress("mailboxes", len(accounts), len(accounts))


def _view(client: AdminClient, path: str, node: str) -> Any:
    """A mailbox as a node has it; None if it had none then."""
    try:
        return json.loads(client.get_text(path, node))
    except CommandError as error:
        if "there was no account" in str(error):
            return None
        raise


def differences(account: str, views: Views) -> Iterator[Violation]:
    """Nodes that show a mailbox in another way than the first does, and in which folders."""
    first, *others = views
    for node in others:
        if views[node] != views[first]:
            ours, theirs = _folders(views[node]), _folders(views[first])
            names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            yield Violation(
                NAME, node, f"{account} differs from {first} in {', '.join(names) or 'whether it is there'}"
            )


def unordered(account: str, node: str, view: Any) -> Iterator[Violation]:
    """Folders whose UIDs do not increase, or reach UIDNEXT (RFC 3501 2.3.1.1)."""
    for name, folder in _folders(view).items():
        uids = [message["uid"] for message in folder["messages"]]
        if sorted(set(uids)) != uids:
            yield Violation(NAME, node, f"{account} {name}: UIDs do not increase")
        if uids and uids[-1] >= folder["uidnext"]:
            yield Violation(NAME, node, f"{account} {name}: UID {uids[-1]}, but UIDNEXT is {folder['uidnext']}")


def _folders(view: Any) -> dict[str, Any]:
    return {} if view is None else {folder["name"]: folder for folder in view["folders"]}
