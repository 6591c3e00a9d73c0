"""What the node's log and metrics say of an attempt, under the id of the connection that brought the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.trail import following

if TYPE_CHECKING:
    from nodes.delivery.outcomes import Finished
    from nodes.services import Services

MOST_REPLY = 300  # characters
# by what became of a recipient: the kind of error, and what the line is called
_KINDS = {
    "deferred": ("delivery_deferred", "mail deferred"),
    "failed": ("delivery_failed", "mail failed"),
    "unknown": ("delivery_unknown", "mail may have been delivered"),
}


def tell(services: Services, finished: Finished) -> None:
    """A line for each way in which it did not reach its recipients, with what the first of those servers said."""
    outcome, item = finished.plan.outcome, finished.item
    results = [one.status for one in outcome.results]
    services.metrics.attempted(results)
    with following(item.session, "delivery"):
        facts = {"item": item.id.hex(), "domain": finished.lane.domain}
        services.logger.debug("mail tried", **facts, results=results)
        for status in sorted({*results} & {*_KINDS}):
            code, event = _KINDS[status]
            first = next(
                (one, text)
                for one, text in zip(outcome.results, finished.plan.texts, strict=True)
                if one.status == status
            )
            said = {"host": first[0].host, "reply": _shown(first[1]), "recipients": results.count(status)}
            services.refusals.note(code, event, **facts, **said)
        for notice in finished.plan.notices:
            services.logger.info("sender told", **facts, kind=notice.kind, recipients=len(notice.recipients))


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text[:MOST_REPLY])
