"""What follows from an attempt: what is recorded, who is tried again and when, who is told what.

Pure: the jitter comes from the caller, drawn before the log. Each recipient that was tried is delivered, is tried
again, or has failed; one that has failed is in a notice, unless the sender asked for none (RFC 3461 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from actors.mail_options import RecipientOptions
from actors.queue import Item, ItemOutcome, Recipient, Result
from nodes.delivery.attempt import AttemptResult, RecipientOutcome

NoticeKind = Literal["failed", "delayed", "relayed", "delivered"]
JITTER = 0.2
MAX_TEXT = 500
EXPIRED = "5.4.7"  # RFC 3463 3.5: delivery time expired
THROTTLE_FIRST_MS = 60_000
THROTTLE_MAX_MS = 3_600_000
FAR_MS = 1 << 62


class Policy(NamedTuple):
    """When to try again and when to give up, in milliseconds; see QueueSection."""

    retry_first_ms: int
    retry_max_ms: int
    warn_after_ms: int


class Told(NamedTuple):
    """One recipient in a notice. `status` is the enhanced code (RFC 3463), `text` the reply or the reason."""

    recipient: Recipient
    status: str
    code: int
    text: str
    host: str

    @property
    def is_reply(self) -> bool:
        """Whether `text` is what `host` said, and not what is said here of it."""
        return bool(self.host) and self.text.startswith(f"{self.code} ")


class Notice(NamedTuple):
    """What the sender of an item is to be told of some of its recipients."""

    kind: NoticeKind
    recipients: tuple[Told, ...]
    until_ms: int = 0  # delayed: how long it is still tried


class Plan(NamedTuple):
    """`texts` are parallel to the outcome's results; `throttle_ms`: how long to leave the whole domain alone."""

    outcome: ItemOutcome
    texts: tuple[str, ...]
    notices: tuple[Notice, ...]
    throttle_ms: int
    throttle_reason: str
    unreached: bool  # no server that other mail for the domain goes to could be spoken to


def plan(item: Item, result: AttemptResult, policy: Policy, now_ms: int, jitter: float) -> Plan:
    """`jitter` is drawn evenly from 0 to 1. A recipient without an outcome is as it was."""
    said = {outcome.address: outcome for outcome in result.outcomes}
    tried = [(place, one, said[one.address]) for place, one in _waiting(item) if one.address in said]
    results: list[Result] = []
    texts: list[str] = []
    told: dict[NoticeKind, list[Told]] = {}
    late = _is_late(item, policy, now_ms)
    for place, recipient, outcome in tried:
        step, text, kind = _settle(item, place, outcome, policy, now_ms, jitter)
        results.append(step)
        texts.append(text)
        if step.status in ("deferred", "unknown") and late:
            kind = "delayed"
        if kind is not None and _is_told(item, recipient, outcome, kind):
            said_text = outcome.text[:MAX_TEXT]
            told.setdefault(kind, []).append(Told(recipient, _status(step), outcome.code, said_text, outcome.host))
    ends_ms = _ends_ms(item)
    notices = tuple(Notice(kind, tuple(those), ends_ms) for kind, those in told.items())
    warned = late and any(one.status in ("deferred", "unknown") for one in results)
    throttle_ms, reason = _throttle(result) if result.shared else (0, "")
    silent = not any(outcome.code or outcome.reached for outcome in result.outcomes)
    unreached = result.shared and silent and any(one.status == "deferred" for one in results)
    return Plan(ItemOutcome(item.id, tuple(results), warned), tuple(texts), notices, throttle_ms, reason, unreached)


def gave_up(item: Item, text: str) -> Notice | None:
    """What the sender is told when an administrator has given the item up; None where nobody is to be told."""
    told = tuple(Told(one, "5.0.0", 0, text, "") for _, one in _waiting(item) if is_told(item, one.options, "failed"))
    return Notice("failed", told) if told else None


def backoff_ms(attempts: int, policy: Policy, jitter: float) -> int:
    """The wait after so many attempts: doubling, at most the policy's longest, 20 % either way."""
    doubled = policy.retry_first_ms * 2 ** min(attempts - 1, 40)
    return int(min(doubled, policy.retry_max_ms) * (1 - JITTER + 2 * JITTER * jitter))


def throttle_span_ms(level: int, asked_ms: int, jitter: float) -> int:
    """How long a domain is left alone for the `level`th time in a row, at least what the peer asked for."""
    span = min(THROTTLE_FIRST_MS * 2 ** min(level - 1, 20), THROTTLE_MAX_MS)
    return max(asked_ms, int(span * (1 - JITTER + 2 * JITTER * jitter)))


def is_told(item: Item, options: RecipientOptions, kind: NoticeKind) -> bool:
    """Whether somebody is to be told: RFC 3461 4.1; a sender who did not say is told of failure and delay.

    Nobody is told of mail from nobody, but that it failed is for our postmaster to know.
    """
    if not item.sender:
        return kind == "failed"
    if kind in ("relayed", "delivered"):
        return "SUCCESS" in options.notify
    if not options.notify:
        return True
    return ("FAILURE" if kind == "failed" else "DELAY") in options.notify


def _settle(
    item: Item, place: int, outcome: RecipientOutcome, policy: Policy, now_ms: int, jitter: float
) -> tuple[Result, str, NoticeKind | None]:
    code, enhanced, host = outcome.code, outcome.enhanced, outcome.host
    text = outcome.text[:MAX_TEXT]
    match outcome.status:
        case "delivered":
            kind: NoticeKind | None = "delivered" if outcome.final else "relayed"
            return Result(place, "delivered", 0, code, enhanced, host), text, kind
        case "failed":
            return Result(place, "failed", 0, code, enhanced or "5.0.0", host), text, "failed"
    ends_ms = _ends_ms(item)
    if now_ms >= ends_ms:
        text = f"Not delivered in the time that there was. The last attempt: {text}"[:MAX_TEXT]
        return Result(place, "failed", 0, code, EXPIRED, host), text, "failed"
    next_ms = now_ms + backoff_ms(item.attempts + 1, policy, jitter)
    next_ms = min([next_ms, ends_ms, *(one for one in _warnings_ms(item, policy) if one > now_ms)])
    return Result(place, outcome.status, next_ms, code, enhanced or "4.0.0", host), text, None


def out_of_time(item: Item, now_ms: int) -> tuple[RecipientOutcome, ...]:
    """The end of a message that was to be delivered by a time or returned, and that time is over: it is not tried any
    more (RFC 2852 4.1), what was said last counts. Empty while there is time."""
    if item.options.by_mode != "R" or not 0 < item.options.deliver_by_ms <= now_ms:
        return ()
    return tuple(
        RecipientOutcome(one.address, "deferred", one.code, one.enhanced, one.reason or "none was made", one.host, "")
        for _, one in _waiting(item)
    )


def next_deadline_ms(item: Item, policy: Policy, now_ms: int) -> int:
    """When something is to be said of the item at the latest, whatever became of its domain."""
    return min(one for one in (_ends_ms(item), *_warnings_ms(item, policy), FAR_MS) if one > now_ms)


def _is_told(item: Item, recipient: Recipient, outcome: RecipientOutcome, kind: NoticeKind) -> bool:
    """Of a relay: where the next server will not tell of success (RFC 3461 5.2.2), or nothing of times to deliver by,
    and where a trace was asked for (RFC 2852 4.1): not to who asked to hear of failures alone, as is put down for a
    sender who may be forged."""
    if kind != "relayed":
        return is_told(item, recipient.options, kind)
    if item.options.by_trace or (item.options.deliver_by_ms and outcome.untimed):
        notify = recipient.options.notify
        return bool(item.sender) and (not notify or "SUCCESS" in notify or "DELAY" in notify)
    return outcome.relayed and is_told(item, recipient.options, kind)


def _waiting(item: Item) -> Iterator[tuple[int, Recipient]]:
    return ((place, one) for place, one in enumerate(item.recipients) if one.state == "waiting")


def _ends_ms(item: Item) -> int:
    """When it is given up: RFC 2852 4.1 for a sender who wants it back."""
    by_ms = item.options.deliver_by_ms
    return min(item.expires_ms, by_ms) if by_ms and item.options.by_mode == "R" else item.expires_ms


def _warnings_ms(item: Item, policy: Policy) -> list[int]:
    """When the sender is told that it is late, once: RFC 2852 4.2 for one who asked for a time."""
    if item.warned:
        return []
    if item.options.deliver_by_ms and item.options.by_mode == "N":
        return [item.options.deliver_by_ms]
    first_ms = max(item.queued_ms, item.options.hold_until_ms)
    return [first_ms + policy.warn_after_ms] if policy.warn_after_ms else []


def _is_late(item: Item, policy: Policy, now_ms: int) -> bool:
    return any(one <= now_ms for one in _warnings_ms(item, policy))


def _status(result: Result) -> str:
    return result.enhanced or {"delivered": "2.0.0", "failed": "5.0.0"}.get(result.status, "4.0.0")


def _throttle(result: AttemptResult) -> tuple[int, str]:
    """RFC 5321 3.8: 421 is about the service, not the mail; 450 and 451 with 4.7.x are about who we are.

    But 4.7.1 is about this message (RFC 3463 3.8), as greylisting says it: mail of others need not wait for its turn.
    """
    for one in result.outcomes:
        of_us = one.code in (450, 451) and one.enhanced.startswith("4.7.") and one.enhanced != "4.7.1"
        if one.code == 421 or of_us:
            return max(result.throttle_ms, 1), f"{one.code} {one.enhanced}".strip() + f" from {one.host or 'the peer'}"
    return result.throttle_ms, "the peer asked for it" if result.throttle_ms else ""
