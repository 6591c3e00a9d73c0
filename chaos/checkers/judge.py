"""All checks of a finished run: the history and the final observation in, promises and what broke them out."""

from collections.abc import Iterator

from chaos.checkers import Check
from chaos.checkers.delivery import check_deliveries
from chaos.checkers.folders import check_folders
from chaos.checkers.log import check_heads, check_logs
from chaos.checkers.mailbox import check_linearizable, check_nodes
from chaos.checkers.names import check_names
from chaos.checkers.numbers import check_going_forward, check_one_state_a_modseq, check_uids
from chaos.checkers.sightings import folder_sightings
from chaos.final import Final
from chaos.history import History


def judge(history: History, final: Final) -> list[Check]:
    """One check a promise; what a run could not observe (the files of a cluster that is not ours) is left out."""
    return list(_checks(history, final))


def _checks(history: History, final: Final) -> Iterator[Check]:
    operations = history.operations
    yield Check(
        "what was acknowledged is there exactly once, byte for byte, on every node",
        check_deliveries(operations, final.observed),
    )
    sightings = folder_sightings(operations, final.observed)
    yield Check("UIDs are never reused and the same on every node; UIDVALIDITY is stable", check_uids(sightings))
    yield Check(
        "MODSEQ and UIDNEXT never go back, and one HIGHESTMODSEQ is one state",
        check_going_forward(sightings) + check_one_state_a_modseq(sightings),
    )
    nodes = sorted({*final.observed, *(one.node for one in history.operations)})
    for promise, judgement in (
        ("reads behind a barrier are linearizable, message by message", check_linearizable(operations, sightings)),
        ("and folder by folder, as sets", check_folders(operations, sightings)),
        ("IMAP shows one node's clients one order", check_nodes(operations, sightings, nodes)),
        ("names, quota and password are linearizable", check_names(operations)),
    ):
        yield Check(promise, judgement.violations, tuple(judgement.undecided))
    if final.heads:
        yield Check("chain heads are equal", check_heads(final.heads))
    if final.logs:
        yield Check("logs verify and tables equal a refold", check_logs(final.logs))
