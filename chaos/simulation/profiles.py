"""What a run is about: everything at once, changes of the members, or replies that come late.

A mistake in how members change needs a rare meeting: two changes, the end of a leader between them, and a partition
that leaves each to a half of its own. Where every fault is drawn by itself that hardly ever happens, so in a part of
the seeds the faults are few and chosen. The profile has a random stream of its own: `mixed` seeds mean what they did.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from chaos.simulation.faults import NO_FAULTS, TIMINGS, Config, Faults

DRAWN = ("mixed", "mixed", "mixed", "members", "members", "replies")
PROFILES = tuple(dict.fromkeys(DRAWN))


class Profile(NamedTuple):
    """A name, and what it makes of a configuration and faults that were drawn."""

    name: str
    config: Config
    faults: Faults


def profile_of(rng: random.Random, wanted: str | None, config: Config, faults: Faults) -> Profile:
    """The profile that was asked for, or that the seed draws. `wanted` is None or one of PROFILES."""
    drawn = rng.choice(DRAWN)
    match wanted or drawn:
        case "members":
            return Profile("members", *_members(rng, config, faults))
        case "replies":
            return Profile("replies", *_replies(rng, config, faults))
        case _:
            return Profile("mixed", config, faults)


def _members(rng: random.Random, config: Config, faults: Faults) -> tuple[Config, Faults]:
    """Mostly four members: of an even number two removals leave two majorities without a common member."""
    made = config._replace(
        nodes=rng.choice((3, 4, 4, 4, 5)), timing=rng.choice(TIMINGS[:2]), message_bytes=rng.choice((1000, 1 << 20))
    )
    chosen = NO_FAULTS._replace(
        streams=faults.streams,
        drop=rng.choice((0.0, 0.0, 0.02)) * (not faults.streams),
        duplicate=rng.choice((0.0, 0.1)) * (not faults.streams),
        delay_s=rng.choice((0.002, 0.01, 0.03)),
        echo=rng.choice((0.0, 0.1)) * (not faults.streams),
        torn=faults.torn,
        crash_every_s=rng.choice((3.0, NO_FAULTS.crash_every_s)),
        sniper=rng.choice((0.0, 0.02)),
        members_every_s=rng.choice((3.0, NO_FAULTS.members_every_s)),
        reorganise_every_s=rng.choice((0.2, 0.5)),
    )
    return made, chosen


def _replies(rng: random.Random, config: Config, faults: Faults) -> tuple[Config, Faults]:
    """Five members, leaders that come back, and followers' replies that are heard again by then."""
    made = config._replace(
        nodes=5, timing=rng.choice(TIMINGS[:2]), message_bytes=1 << 20, in_flight_bytes=1 << 24, records_every_s=0.1
    )
    chosen = NO_FAULTS._replace(
        streams=False,
        duplicate=faults.duplicate,
        delay_s=rng.choice((0.002, 0.01)),
        late=faults.late,
        echo=faults.echo,
        comeback_every_s=1.0,
        repeat=rng.choice((0.5, 1.0)),
    )
    return made, chosen
