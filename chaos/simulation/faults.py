"""What a seed draws: the cell's configuration, and which faults happen how often.

Every kind of fault is drawn alone, so that a run can be repeated without one of them (`without`), and a failing seed
be narrowed down to those that it needs.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from eventlog.raft import Timing

TIMINGS = (Timing(0.15, 0.3, 0.03), Timing(0.3, 0.6, 0.06), Timing(0.5, 1.0, 0.1))
NEVER_S = 1e9


class Config(NamedTuple):
    """How the cell is made. `message_bytes` and `in_flight_bytes` limit what a leader sends a peer at a time."""

    nodes: int
    timing: Timing
    message_bytes: int
    in_flight_bytes: int
    fold_budget_s: float
    records_every_s: float
    commands_every_s: float
    reads_every_s: float

    @classmethod
    def drawn(cls, rng: random.Random) -> Config:
        return cls(
            nodes=rng.choice((1, 3, 3, 3, 5, 5, 5, 5)),
            timing=rng.choice(TIMINGS),
            message_bytes=rng.choice((1, 1000, 1 << 20)),
            in_flight_bytes=rng.choice((1000, 1 << 24)),
            fold_budget_s=rng.choice((-1.0, 0.05)),
            records_every_s=rng.choice((0.1, 0.2, 0.5)),
            commands_every_s=rng.choice((0.2, 0.4)),
            reads_every_s=rng.choice((0.2, 0.5)),
        )


class Faults(NamedTuple):
    """Probabilities are of one message or one tick, `_every_s` the mean gap between two; times in seconds.

    streams: a link is a TCP connection (in order, once, stalled while it is cut); else each message travels alone.
    late: how many messages come after several election timeouts; echo: how many come again, that late. sniper: crashes
    at chosen moments of the protocol. comeback: a leader is left with one follower, loses its tail, and leads again.
    reorganise: plays of changes of the members. repeat: how often a new leader hears old replies again.
    """

    streams: bool = True
    drop: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.002
    late: float = 0.0
    echo: float = 0.0
    partition_every_s: float = NEVER_S
    crash_every_s: float = NEVER_S
    sniper: float = 0.0
    torn: float = 0.0
    slow_disk_every_s: float = NEVER_S
    full_disk_every_s: float = NEVER_S
    pause_every_s: float = NEVER_S
    skew_every_s: float = NEVER_S
    disturb_every_s: float = NEVER_S
    members_every_s: float = NEVER_S
    comeback_every_s: float = NEVER_S
    reorganise_every_s: float = NEVER_S
    repeat: float = 0.0

    @classmethod
    def drawn(cls, rng: random.Random) -> Faults:
        streams = rng.random() < 0.3
        return cls(
            streams=streams,
            drop=rng.choice((0.0, 0.02, 0.15)) * (not streams),
            duplicate=rng.choice((0.0, 0.1, 0.4)) * (not streams),
            delay_s=rng.choice((0.002, 0.01, 0.05, 0.15)),
            late=rng.choice((0.0, 0.02, 0.1)) * (not streams),
            echo=rng.choice((0.0, 0.2, 0.6)) * (not streams),
            partition_every_s=rng.choice((0.7, 2.0, NEVER_S)),
            crash_every_s=rng.choice((1.0, 4.0, NEVER_S)),
            sniper=rng.choice((0.0, 0.02, 0.1)),
            torn=rng.choice((0.0, 0.3)),
            slow_disk_every_s=rng.choice((3.0, NEVER_S)),
            full_disk_every_s=rng.choice((5.0, NEVER_S, NEVER_S)),
            pause_every_s=rng.choice((3.0, NEVER_S)),
            skew_every_s=rng.choice((3.0, NEVER_S)),
            disturb_every_s=rng.choice((0.2, 0.6, 2.0, NEVER_S)),
            members_every_s=rng.choice((0.7, 3.0, NEVER_S)),
            comeback_every_s=rng.choice((1.5, 1.5, NEVER_S)),
        )

    def without(self, names: tuple[str, ...]) -> Faults:
        """These faults never happen. Raises ValueError for a name that is none."""
        unknown = set(names) - set(self._fields)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        calm = {name: NO_FAULTS._asdict()[name] for name in names}
        return self._replace(**calm)

    @property
    def active(self) -> dict[str, Any]:
        """Those that happen in this run."""
        return {name: value for name, value in self._asdict().items() if value != NO_FAULTS._asdict()[name]}


NO_FAULTS = Faults()
KINDS = Faults._fields
