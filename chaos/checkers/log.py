"""One order: equal chain heads at one position on every node, each node's log verifies, its tables equal a refold."""

from collections.abc import Iterable
from typing import NamedTuple

from chaos.checkers import Violation


class NodeHead(NamedTuple):
    """Where a node stands: the position that it has applied and the hex chain hash there."""

    node: str
    applied: int
    chain: str


class NodeLog(NamedTuple):
    """One node's files, examined after it stopped: `log verify`, whether its tables equal a refold; `head` is the chain
    at a position that all nodes have reached."""

    node: str
    ok: bool
    first_bad: int | None
    head: str
    refold_equal: bool


def check_heads(heads: Iterable[NodeHead]) -> list[Violation]:
    """Every node must have applied the same position, with the same hash."""
    heads = list(heads)
    if not heads:
        return [Violation("chain", "", "no node gave a head")]
    first = heads[0]
    return [
        Violation("chain", head.node, f"at {head.applied} {head.chain}, {first.node} at {first.applied} {first.chain}")
        for head in heads[1:]
        if head[1:] != first[1:]
    ]


def check_logs(logs: Iterable[NodeLog]) -> list[Violation]:
    """On every node the log must verify, with one head; tables must equal a fold from zero.

    The fold is a function of the log, so one head and equal refolds make the tables of all nodes equal.
    """
    logs = list(logs)
    violations: list[Violation] = []
    for log in logs:
        if not log.ok:
            violations.append(Violation("verify", log.node, f"the log is damaged from position {log.first_bad} on"))
        if log.head != logs[0].head:
            violations.append(Violation("verify", log.node, f"head {log.head}, {logs[0].node} has {logs[0].head}"))
        if not log.refold_equal:
            violations.append(Violation("refold", log.node, "the tables are not what a fold from zero gives"))
    return violations
