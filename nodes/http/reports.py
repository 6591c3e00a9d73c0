"""Reports over the admin API: who reports, what is collected, what was sent, what others have reported."""

from __future__ import annotations

from typing import Any, Literal

import msgpack
from pydantic import Field

from actors import directory, reports
from actors.errors import InvalidName
from actors.names import normalise_address
from actors.reports import REPORTS, Collected, Received, Sent, SetReporting
from nodes.http import rows
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError, bad_request
from nodes.http.models import Address, Milliseconds, Model, Nothing, Page, PageQuery
from nodes.http.pages import page
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("reports")
MOST_ORGANISATION = 100
MOST_ADDRESSES = 100


class ReportSettings(Model):
    """Who reports: nothing is collected before `sender` is set. `addresses`: where others' reports come in."""

    sender: str = Field(examples=["reports@example.test"])
    organisation: str = Field(examples=["Example"])
    addresses: list[str]


class SettingsChange(Model):
    """What is left out stays. An empty sender ends collecting."""

    sender: str | None = Field(None, max_length=320, examples=["reports@example.test"])
    organisation: str | None = Field(None, max_length=MOST_ORGANISATION, examples=["Example"])
    addresses: list[Address] | None = Field(None, max_length=MOST_ADDRESSES)


class ReceivedQuery(PageQuery):
    """All, or those of a kind."""

    kind: Literal["dmarc", "tls", "arf"] | None = None


class ReceivedReport(Model):
    """What somebody else has seen of mail from our domains."""

    id: str
    kind: str = Field(examples=["dmarc"])
    organisation: str
    report_id: str
    domain: str
    begin_s: int
    end_s: int
    address: str
    at_ms: Milliseconds
    totals: dict[str, Any]


class ReceivedReports(Page):
    """The newest first; only so many are kept."""

    reports: list[ReceivedReport]


class WholeReport(ReceivedReport):
    """With all that it says."""

    content: dict[str, Any]


class OfSubject(Model):
    """What a report is about: a day since 1970 in UTC, and a domain with a policy."""

    kind: str = Field(examples=["dmarc"])
    day: int
    domain: str


class CollectedReport(OfSubject):
    """A report that grows."""

    first_ms: Milliseconds
    last_ms: Milliseconds
    lines: int
    left_out: int


class CollectedReports(Page):
    """What is not sent yet."""

    reports: list[CollectedReport]


class SentReport(OfSubject):
    """A report that was sent, or that nobody wanted."""

    at_ms: Milliseconds
    outcome: str
    recipients: list[str]
    results: int


class SentReports(Page):
    """The newest first; only so many are kept."""

    reports: list[SentReport]


class Send(Model):
    """With `today`, what is collected of this day too."""

    today: bool = False


class Outcomes(Model):
    """How many of each."""

    outcomes: dict[str, int] = Field(examples=[{"sent": 3}])


@ENDPOINTS.get("/v1/reports/settings", "reports:read", CLUSTER, ReportSettings, made_of=rows.REPORTING)
async def show_settings(call: Call) -> dict[str, Any]:
    """Show who reports, and where others' reports come in."""
    with call.services.log.snapshot() as snapshot:
        return reports.settings(snapshot.view(REPORTS))._asdict()


@ENDPOINTS.put("/v1/reports/settings", "reports:write", CLUSTER, Nothing, made_of=rows.REPORTING)
async def change_settings(call: Call, body: SettingsChange) -> dict[str, Any]:
    """Change who reports, and where others' reports come in."""
    with call.services.log.snapshot() as snapshot:
        before = reports.settings(snapshot.view(REPORTS))
        sender = _address(before.sender if body.sender is None else body.sender, "sender")
        if sender and directory.domain_tenant(snapshot, sender.rpartition("@")[2]) is None:
            raise bad_request("sender: its domain is not one of this cell", "mailraft tenant list")
    organisation = before.organisation if body.organisation is None else body.organisation
    if not organisation.isprintable():
        raise bad_request("organisation: must be text without control characters")
    addresses = before.addresses if body.addresses is None else body.addresses
    wanted = tuple(dict.fromkeys(_address(one, "addresses") for one in addresses))
    await call.services.runtime.ask(REPORTS, SetReporting(sender, organisation, wanted), call.context)
    return {}


@ENDPOINTS.get("/v1/reports", "reports:read", CLUSTER, ReceivedReports)
async def list_received(call: Call, query: ReceivedQuery) -> dict[str, Any]:
    """List what others have reported, the newest first."""
    with call.services.log.snapshot() as snapshot:
        found = [one for one in reports.received(snapshot.view(REPORTS)) if query.kind in (None, one.kind)]
    listed, following = page(found, lambda one: (-one.at_ms, one.id.hex()), query, _summary)
    return {"reports": listed, "next": following}


@ENDPOINTS.get("/v1/reports/received/{id}", "reports:read", CLUSTER, WholeReport, problems=("no_such_report",))
async def show_received(call: Call) -> dict[str, Any]:
    """Show a report of others whole; the id may be shortened as long as it is the only one that begins so."""
    wanted = call.path["id"].lower()
    with call.services.log.snapshot() as snapshot:
        found = [one for one in reports.received(snapshot.view(REPORTS)) if one.id.hex().startswith(wanted)]
    if len(found) != 1:
        what = "there is no such report" if not found else "several reports begin like that"
        raise ApiError(404, "not_found", what, "mailraft report list", code="no_such_report")
    return {**_summary(found[0]), "content": _content(found[0])}


@ENDPOINTS.get("/v1/reports/collected", "reports:read", CLUSTER, CollectedReports)
async def list_collected(call: Call, query: PageQuery) -> dict[str, Any]:
    """List reports that grow."""
    with call.services.log.snapshot() as snapshot:
        found = list(reports.collected(snapshot.view(REPORTS)))
    listed, following = page(found, lambda one: tuple(one.subject), query, _collected)
    return {"reports": listed, "next": following}


@ENDPOINTS.get("/v1/reports/sent", "reports:read", CLUSTER, SentReports)
async def list_sent(call: Call, query: PageQuery) -> dict[str, Any]:
    """List reports that were sent, the newest first."""
    with call.services.log.snapshot() as snapshot:
        found = reports.sent(snapshot.view(REPORTS))
    listed, following = page(found, lambda one: (-one.at_ms, *one.subject), query, _sent)
    return {"reports": listed, "next": following}


@ENDPOINTS.post("/v1/reports/send", "reports:write", CLUSTER, Outcomes, once=False)
async def send(call: Call, body: Send) -> dict[str, Any]:
    """Send now what is due. What was sent is not sent again."""
    sender = call.request.app[STATE].report_sender
    assert sender is not None
    await call.services.reports.flush()
    return {"outcomes": await sender.send(unfinished_days=body.today)}


def _address(value: str, name: str) -> str:
    if value == "" and name == "sender":
        return ""
    try:
        return normalise_address(value)
    except InvalidName as error:
        raise bad_request(f"{name}: {error}") from None


def _summary(one: Received) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(one, name)
        for name in ("kind", "organisation", "report_id", "domain", "begin_s", "end_s", "address", "at_ms")
    }
    content = _content(one)
    totals = {name: content[name] for name in ("messages", "passed", "succeeded", "failed") if name in content}
    return {"id": one.id.hex(), **found, "totals": totals}


def _content(one: Received) -> dict[str, Any]:
    content: dict[str, Any] = msgpack.unpackb(one.content)
    return content


def _collected(one: Collected) -> dict[str, Any]:
    return {
        **one.subject._asdict(),
        **{name: getattr(one, name) for name in ("first_ms", "last_ms", "lines", "left_out")},
    }


def _sent(one: Sent) -> dict[str, Any]:
    told = {name: getattr(one, name) for name in ("at_ms", "outcome", "recipients", "results")}
    return {**one.subject._asdict(), **told}
