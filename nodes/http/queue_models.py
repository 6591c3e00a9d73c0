"""What the endpoints of the queue take and give (nodes/http/queue.py)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nodes.http.models import Milliseconds, Model, Page, PageQuery

State = Literal["waiting", "scheduled", "deferred", "sending", "held", "throttled", "suspended"]
Action = Literal["retry", "hold", "release", "delete", "bounce", "reroute"]
Id = Annotated[str, Field(min_length=1, max_length=64, examples=["0193a1b2c3d4e5f60718293a4b5c6d7e"])]
Text = Annotated[str, Field(max_length=320)]
MOST_OLDER_S = 10**12
MOST_IDS = 1000


class ItemFilter(Model):
    """Which messages are meant; what is left out counts for all."""

    domain: Text = ""
    sender: Text | None = None
    recipient: Text = ""
    state: State | Literal[""] = ""
    older_s: int | Annotated[str, Field(pattern="^[0-9]{1,12}$")] = Field(0, description="Queued before so long.")


class QueueQuery(PageQuery):
    """Which messages, and which page of them."""

    domain: Text = ""
    sender: Text | None = None
    recipient: Text = ""
    state: State | Literal[""] = ""
    older_s: int = Field(0, ge=0, lt=MOST_OLDER_S, description="Queued before so long.")


class StatsQuery(PageQuery):
    """All, or this domain only."""

    domain: Text | None = None


class QueuedRecipient(Model):
    """A recipient, and what the last attempt said."""

    address: str = Field(examples=["bob@elsewhere.test"])
    state: str
    next_ms: Milliseconds
    reason: str
    code: int
    enhanced: str
    host: str
    notify: list[str]
    orcpt: str | None


class QueueItem(Model):
    """A message that waits to be sent elsewhere, to recipients of one domain."""

    id: Id
    domain: str
    state: State
    suspended_because: str | None = Field(description="Whether its domain, all sending, or its tenant is suspended.")
    sender: str
    recipients: list[QueuedRecipient]
    session: str = Field(description="The id of the connection that brought it, as in the lines of the log.")
    size: int
    sha256: str
    attempts: int
    possible_duplicates: int
    queued_ms: Milliseconds
    next_ms: Milliseconds | None = Field(description="When it is tried next; none while it is held or suspended.")
    expires_ms: Milliseconds
    held_by: str | None = Field(description="The node that sends it now.")
    route: str
    warned: bool
    options: dict[str, Any]


class QueuePage(Page):
    """By domain and age."""

    items: list[QueueItem]


class Suspended(Model):
    """Nothing is sent, and why."""

    since_ms: Milliseconds
    reason: str


class Why(Model):
    """What the last attempts said, and how often."""

    reason: str
    count: int


class DomainStats(Model):
    """How mail for one domain does."""

    domain: str
    items: int
    bytes: int
    oldest_ms: Milliseconds | None
    states: dict[str, int]
    reasons: list[Why]
    throttled_until_ms: Milliseconds | None
    throttle_reason: str | None
    suspended: Suspended | None
    last_7_days: dict[str, int]
    bounce_rate: float | None


class Stats(Page):
    """Domains that have something to tell, by name."""

    domains: list[DomainStats]
    all_suspended: Suspended | None


class Act(Model):
    """Either ids or a filter says which messages are meant."""

    action: Action
    ids: list[Id] | None = Field(None, min_length=1, max_length=MOST_IDS)
    filter: ItemFilter | None = None
    route: str = Field("", max_length=255, description="For reroute.")
    reason: str | None = Field("", max_length=200, description="For bounce: what the senders are told.")


class NotDone(Model):
    """One that was refused does not keep the others."""

    id: Id
    reason: str


class Acted(Model):
    """How many were changed, which were refused, and which there are not (any more)."""

    done: int
    refused: list[NotDone]
    missing: list[Id]


class QueueSuspension(Model):
    """For people."""

    reason: str = Field("", max_length=200)


class DomainChanged(Model):
    """Whether it was otherwise before."""

    domain: str
    changed: bool
