"""The examination of a domain over the admin API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nodes.dkim_admin import DkimAdmin
from nodes.doctor import examine
from nodes.doctor.finding import worst
from nodes.http import places
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Domain, Model
from nodes.http.places import in_path

ENDPOINTS = Endpoints("doctor")


class WantedFile(Model):
    """A file that is to be on a web server."""

    where: str = Field(examples=["https://mta-sts.example.org/.well-known/mta-sts.txt"])
    text: str


class Finding(Model):
    """One thing that was looked at. `records`: lines of a zone file that would mend it; `files`: what else would."""

    area: str = Field(examples=["SPF"])
    status: str = Field(examples=["warning"])
    text: str
    advice: str
    records: list[str]
    files: list[WantedFile]


class Examination(Model):
    """What DNS and the hosts of a domain say."""

    domain: Domain
    worst: str = Field(examples=["warning"])
    findings: list[Finding]


@ENDPOINTS.get("/v1/doctor/{domain}", "domains:read", places.domain(in_path("domain")), Examination)
async def examine_domain(call: Call) -> dict[str, Any]:
    """Examine a domain: its records in DNS, its hosts, its keys.

    It takes as long as names and hosts take to answer, or not to.
    """
    domain, _ = DkimAdmin(call.services).require(call.path["domain"])
    findings = await examine(call.services, domain)
    rows = [
        {**one._asdict(), "records": list(one.records), "files": [file._asdict() for file in one.files]}
        for one in findings
    ]
    return {"domain": domain, "worst": worst(findings), "findings": rows}
