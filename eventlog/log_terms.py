"""What is said to an event log and by it: what it must know to be opened, and how it stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from eventlog import levels
from eventlog.ticks import State


class LogConfig(NamedTuple):
    """What a node's log needs to know. Sizes in bytes, times in seconds; addresses are `host:port`."""

    name: str
    data_dir: Path
    peers: Mapping[str, str]  # the first members by name, for a log that names none yet; without this node: it joins
    listen: str
    election_timeout_s: tuple[float, float] = (0.5, 1.0)
    heartbeat_s: float = 0.1
    map_size_bytes: int = 1 << 40
    reserve_bytes: int = 64 * 1024 * 1024
    cell_id: str = ""  # what segments of the archive say that they are of


class MemberStatus(NamedTuple):
    """A member as this node knows the cell. `match`: on the leader, how far its log is known to be the leader's."""

    name: str
    address: str
    voter: bool
    match: int | None


class LogStatus(NamedTuple):
    """The log of this node now. `chain` is the chain hash at `applied`.

    `members` are those in force, committed or not; `removed_at` is where this node was removed from the cell, or 0.
    """

    name: str
    role: str
    leader: str | None
    term: int
    commit: int
    applied: int
    last_index: int
    at_ms: int
    chain: bytes
    disk_free_bytes: int
    accepting_mail: bool
    stalled: str | None
    members: tuple[MemberStatus, ...] = ()
    feature_level: int = levels.OLDEST
    removed_at: int = 0


def status_of(config: LogConfig, state: State) -> LogStatus:
    """How the log stands after a tick."""
    members = tuple(MemberStatus(*member, state.matches.get(member.name)) for member in state.config.members)
    accepting = state.free_bytes >= config.reserve_bytes and state.stalled is None
    return LogStatus(
        config.name, state.role, state.leader, state.term, state.commit, state.applied, state.last_index,
        state.at_ms, state.chain, state.free_bytes, accepting, state.stalled, members, state.level, state.removed_at,
    )  # fmt: skip
