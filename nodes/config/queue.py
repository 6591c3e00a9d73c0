"""The table `queue`: how this node sends the mail that waits, and when it gives up."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nodes.config.values import Section

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class QueueSection(Section):
    """Sending the mail that waits for other servers. The same on every node, but for `send`."""

    RELOADS: ClassVar[bool | frozenset[str]] = True
    RESTART: ClassVar[frozenset[str]] = frozenset({"lease_s", "takeover_s"})
    CLUSTER: ClassVar[frozenset[str]] = frozenset({"retry_first_s", "retry_max_s", "lifetime_s", "warn_after_s"})

    send: bool = Field(default=True, description="Whether this node sends; if not, the others do.")
    concurrency: int = Field(default=200, ge=1, le=10_000, description="Most messages that this node sends at a time.")
    domain_concurrency: int = Field(
        default=20, ge=1, le=1000, description="Most messages that this node sends to one destination domain at a time."
    )
    retry_first_s: float = Field(
        default=300.0, gt=0, le=DAY_S, description="The wait after a first attempt; it doubles with each, give or take."
    )
    retry_max_s: float = Field(default=2 * HOUR_S, gt=0, le=DAY_S, description="The wait grows no further than this.")
    lifetime_s: float = Field(
        default=5 * DAY_S, gt=0, le=60 * DAY_S, description="How long delivery is tried before the sender gets it back."
    )
    warn_after_s: float = Field(
        default=4 * HOUR_S, ge=0, le=60 * DAY_S, description="When the sender is told that it is late; 0: never."
    )
    lease_s: float = Field(
        default=30.0,
        ge=1,
        le=HOUR_S,
        description="How long mail that a node has taken to send is left to it if it says nothing more.",
    )
    takeover_s: float = Field(
        default=10.0, ge=0, le=HOUR_S, description="How long due mail may lie before the next node takes it."
    )
