"""What a stopped node's files say: does its log verify, and do its tables equal a fold from zero."""

from pathlib import Path

from actors.registry import fold_event
from chaos.checkers.log import NodeLog
from eventlog.rebuild import rebuild
from eventlog.verify import verify


def examine(node: str, data_dir: Path, position: int) -> NodeLog:
    """Walks the log and folds it again; the head is that at `position`, which all had reached when they were stopped.

    What they end with may differ: nodes that stop elect others on their way. Blocking; raises what the database raises
    when it can not be opened.
    """
    proof = verify(data_dir, at=(position,))
    head = proof.chains.get(position, b"").hex()
    return NodeLog(node, proof.ok, proof.first_bad, head, rebuild(data_dir, fold_event).equal)
