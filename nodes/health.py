"""What a node is made of, what stands on what, and what happens to mail when a part fails: the choice is declared here.

A part is critical where a node without it must get no clients: `/readyz` fails, and nothing else makes it fail. Without
any other part mail flows, and `/v1/health` says what is amiss. docs/operations.md has this table, and a test compares.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from actors import acme
from actors.acme import ACME

if TYPE_CHECKING:
    from eventlog.log import LogStatus
    from nodes.state import NodeState

MOST_LAG = 1000  # positions between commit and fold above which reads here would be noticeably old
CLOCK_WARNING_S, CLOCK_ERROR_S = 1.0, 5.0  # the leader refuses what is proposed by a clock that is 5 s off
MOST_REASON = 300  # characters

Standing = Literal["up", "down", "off", "unknown"]


class Found(NamedTuple):
    """How a part does. off: it is not configured; unknown: this can not be told now."""

    standing: Standing
    reason: str = ""


UP, OFF, UNKNOWN = Found("up"), Found("off"), Found("unknown")


class Part(NamedTuple):
    """`needs`: the parts without which it can not work. `without_it`: what was chosen to happen when it is down."""

    name: str
    critical: bool
    needs: tuple[str, ...]
    without_it: str
    look: Callable[[NodeState], Found]


def examine(state: NodeState) -> list[tuple[Part, Found]]:
    """Every part, in the order of PARTS: none needs a later one. Never fails, and waits for nothing."""
    return [(part, _look(part, state)) for part in PARTS]


def unready(state: NodeState) -> list[str]:
    """Why this node should get no mail or clients now: the critical parts that are down."""
    critical = ((part, _look(part, state)) for part in PARTS if part.critical)
    return [found.reason for _, found in critical if found.standing == "down"]


def _look(part: Part, state: NodeState) -> Found:
    if (state.phase != "serving" or state.log is None) and part.name not in ("node", "log"):
        return UNKNOWN
    try:
        return part.look(state)
    except Exception as error:
        return Found("unknown", f"{type(error).__name__}: {error}"[:MOST_REASON])


def _down(reason: str) -> Found:
    return Found("down", reason[:MOST_REASON]) if reason else UP


def _log_status(state: NodeState) -> LogStatus:
    assert state.log is not None
    return state.log.status()


# -- critical


def _node(state: NodeState) -> Found:
    if state.phase == "joining":
        return _down(f"joining: {state.joining}")
    if state.phase == "stopping":
        return _down("stopping")
    if state.phase == "starting" or (state.phase == "serving" and state.log is None):
        return _down("starting")
    if state.draining is not None and state.draining.is_under_way:
        return _down("draining: clients finish, and no new ones are taken")
    return UP


def _log(state: NodeState) -> Found:
    if state.phase == "quarantined":
        return Found("down", f"quarantined: {state.quarantine_reason}")
    return UP if state.log is not None else UNKNOWN


def _consensus(state: NodeState) -> Found:
    missing = _log_status(state).leader is None
    return _down("no leader is known: a majority of the cell must be up" if missing else "")


def _fold(state: NodeState) -> Found:
    status = _log_status(state)
    if status.stalled is not None:
        way_out = f"mailraft log quarantine {status.applied + 1}"
        return Found("down", f"the fold has stalled: {status.stalled} (way out: {way_out})")
    lag = status.commit - status.applied
    return _down(f"the fold is {lag} positions behind" if lag > MOST_LAG else "")


def _disk(state: NodeState) -> Found:
    status = _log_status(state)
    is_full = not status.accepting_mail and status.stalled is None
    return _down("mail is refused: the disk is at its reserve" if is_full else "")


# -- without these mail flows


def _cell(state: NodeState) -> Found:
    if state.cell is None:
        return UNKNOWN
    missing = state.cell.silent()
    return _down(f"not heard from: {', '.join(missing)}" if missing else "")


def _clock(state: NodeState) -> Found:
    off_s = state.cell.own_clock_off_s() if state.cell is not None else None
    if off_s is None:
        return Found("unknown", "no other node to compare with")
    if abs(off_s) < CLOCK_WARNING_S:
        return UP
    text = f"it is {abs(off_s):.1f} s {'ahead of' if off_s > 0 else 'behind'} the other nodes'"
    return _down(text + (": what this node proposes is refused" if abs(off_s) >= CLOCK_ERROR_S else ""))


def _certificates(state: NodeState) -> Found:
    files = state.tls_files
    if files is None:
        return UNKNOWN
    now = datetime.datetime.now(datetime.UTC)
    ended = [name for name, chain in (("node", files.node), ("server", files.server)) if chain.not_after < now]
    if ended:
        return _down(f"expired: the {' and the '.join(ended)} certificate")
    return _down(f"a changed certificate is not taken: {files.refusal}" if files.refusal else "")


def _acme(state: NodeState) -> Found:
    assert state.log is not None
    with state.log.snapshot() as snapshot:
        view = snapshot.view(ACME)
        kept = acme.managed(view) if acme.account(view) is not None else []
    failed = [f"{', '.join(one.names)}: {one.problem}" for one in kept if one.failures]
    return _down("; ".join(failed)) if kept else OFF


def _resolver(state: NodeState) -> Found:
    return _down(state.services.resolver.failing) if state.services is not None else UNKNOWN


def _filters(state: NodeState) -> Found:
    found = state.checking.filters.status() if state.checking is not None else {}
    down = [f"{name} is {standing}" for name, standing in found.items() if standing.startswith("down")]
    return _down("; ".join(down)) if found else OFF


def _fulltext(state: NodeState) -> Found:
    index = state.services.fulltext if state.services is not None else None
    if index is None:
        return UNKNOWN
    status = index.status()
    if status.state in ("off", "missing"):
        return OFF
    return _down(f"the index is not kept up: {status.error}" if status.state == "failed" else "")


def _workers(state: NodeState) -> Found:
    if state.crew is None:
        return OFF
    missing = ", ".join(map(str, state.crew.missing))
    return _down(f"not there: {missing}; others are started in their place" if missing else "")


def _delivery(state: NodeState) -> Found:
    if state.delivery is None:
        return UNKNOWN
    return _down("" if state.delivery.is_at_work else "it has ended: what waits in the queue is tried by other nodes")


def _reports(state: NodeState) -> Found:
    return _down(state.report_sender.failure) if state.report_sender is not None else UNKNOWN


def _followers(state: NodeState) -> Found:
    return _down(state.followers.failure) if state.followers is not None else UNKNOWN


# fmt: off
PARTS = (
    Part("node", True, (), "it starts, joins, drains or stops: clients belong on another node", _node),
    Part("log", True, ("node",), "a database that is damaged, or of a node that was removed, serves nobody", _log),
    Part("consensus", True, ("log",), "nothing can be written, and nothing is lost: mail and changes are refused "
         "with a temporary error; clients log in and read on", _consensus),
    Part("fold", True, ("log",), "what is read here would be old", _fold),
    Part("disk", True, ("log",), "new mail is refused for now (452); reading, deleting and the vote go on", _disk),
    Part("cell", False, ("log",), "the majority goes on, with fewer nodes to spare", _cell),
    Part("clock", False, ("cell",), "the log's time does not follow it: a leader whose clock is off hands over, and "
         "writes through this node are refused for now from 5 s on", _clock),
    Part("certificates", False, ("node",),
         "those that there are go on being shown; clients that look warn", _certificates),
    Part("acme", False, ("consensus",), "certificates are not renewed; the attempts go on", _acme),
    Part("resolver", False, ("node",), "mail to mailboxes here is taken where policy needs no answer; mail to others "
         "waits in the queue", _resolver),
    Part("filters", False, ("node",), "what filters.when_down says: mail is deferred, or taken unfiltered", _filters),
    Part("full-text index", False, ("fold",), "searches read the messages: slower, and the same answers", _fulltext),
    Part("workers", False, ("log",), "those that are left take all clients", _workers),
    Part("delivery", False, ("consensus", "resolver"), "mail for others is taken and waits", _delivery),
    Part("reports", False, ("delivery",), "reports to other domains are late", _reports),
    Part("followers", False, ("consensus",), "copies of other cells grow old", _followers),
)
# fmt: on
