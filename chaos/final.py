"""What is looked at when a run is over: every node's mailboxes and heads while it runs, its files after it stopped.

The looking is here, the judging in `chaos.checkers`: a `Final` and a history are all that a checker gets.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.checkers.log import NodeHead, NodeLog
from chaos.history import History, Outcome
from chaos.observation import Observed, password_in_force, read_mailbox
from chaos.workload.administration import Administration, vault_password
from chaos.workload.book import FOLDERS
from chaos.workload.target import Target

MOST_CANDIDATES = 4  # a node stops listening to somebody who tries many passwords


@dataclass(frozen=True)
class Final:
    """The final observation. `logs` is empty where the files of a running cluster are not ours to open."""

    observed: Observed
    heads: Sequence[NodeHead] = ()
    logs: Sequence[NodeLog] = ()


async def observe(target: Target, history: History, seed: int) -> Observed:
    """Every account's mailbox at every node; for the history, the names and passwords. The cluster has settled.

    Give a target without the nodes that can not be looked at (one that is quarantined): `target.without(names)`.

    Raises ObservationError.
    """
    administration = Administration(seed, target, history)
    for node in target.nodes:
        await administration.list_names(node)
        for account in target.witnesses:
            await administration.look_into(node, account)
    return await asyncio.to_thread(_observe, target, history, seed)


def _observe(target: Target, history: History, seed: int) -> Observed:
    candidates = {
        value: vault_password(seed, value) if value else target.password for value in _values_that_may_stand(history)
    }
    observed = {}
    for node in target.nodes:
        endpoint = target.endpoints[node]["imap"]
        holdings = {account: read_mailbox(endpoint, account, target.password) for account in target.accounts}
        for account in target.witnesses:
            holdings[account] = read_mailbox(endpoint, account, target.password, FOLDERS)
        observed[node] = holdings
        password_in_force(history, node, endpoint, target.vault, candidates)
    return observed


def _values_that_may_stand(history: History) -> list[int]:
    """The vault's passwords that may be in force, the likeliest first; 0 is the one that it was made with."""
    changes = [one for one in history.operations if one.action == "password" and one.may_have_happened]
    changes.sort(key=lambda one: (one.outcome is Outcome.ACKNOWLEDGED, one.ended_s), reverse=True)
    values = [int(one.asked["value"]) for one in changes[:MOST_CANDIDATES]]
    return values if any(one.acknowledged for one in changes) else [*values, 0]
