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
from chaos.workload.site import Site

MOST_CANDIDATES = 4  # a node stops listening to somebody who tries many passwords


@dataclass(frozen=True)
class Final:
    """The final observation. `logs` is empty where the files of a running cluster are not ours to open."""

    observed: Observed
    heads: Sequence[NodeHead] = ()
    logs: Sequence[NodeLog] = ()


async def observe(site: Site, history: History, seed: int) -> Observed:
    """Every account's mailbox at every node; for the history, the names and passwords. The cluster has settled.

    Raises ObservationError.
    """
    administration = Administration(seed, site, history)
    for node in site.nodes:
        await administration.list_names(node)
        for account in site.witnesses:
            await administration.look_into(node, account)
    return await asyncio.to_thread(_observe, site, history, seed)


def _observe(site: Site, history: History, seed: int) -> Observed:
    candidates = {
        value: vault_password(seed, value) if value else site.password for value in _values_that_may_stand(history)
    }
    observed = {}
    for node in site.nodes:
        endpoint = site.endpoints[node]["imap"]
        holdings = {account: read_mailbox(endpoint, account, site.password) for account in site.accounts}
        for account in site.witnesses:
            holdings[account] = read_mailbox(endpoint, account, site.password, FOLDERS)
        observed[node] = holdings
        password_in_force(history, node, endpoint, site.vault, candidates)
    return observed


def _values_that_may_stand(history: History) -> list[int]:
    """The vault's passwords that may be in force, the likeliest first; 0 is the one that it was made with."""
    changes = [one for one in history.operations if one.action == "password" and one.may_have_happened]
    changes.sort(key=lambda one: (one.outcome is Outcome.ACKNOWLEDGED, one.ended_s), reverse=True)
    values = [int(one.asked["value"]) for one in changes[:MOST_CANDIDATES]]
    return values if any(one.acknowledged for one in changes) else [*values, 0]
