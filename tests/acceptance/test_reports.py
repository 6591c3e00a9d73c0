"""`mailraft report` against a running cluster: who reports, and what others have reported by mail."""

from __future__ import annotations

import json
import smtplib
from typing import Any

import pytest

from chaos.cluster import ClusterError
from tests.acceptance.site import ALICE, Site
from tests.nodes.reports import samples


def told(site: Site, *arguments: str) -> Any:
    return json.loads(site.cluster.command("report", *arguments, "--json"))


def send(site: Site, message: bytes) -> None:
    host, _, port = site.endpoints("smtp")[0].rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("noreply@receiver.test", [ALICE], message)


def test_who_reports_is_set_and_shown(site: Site) -> None:
    site.cluster.command("report", "set", "--from", ALICE, "--organisation", "Example", "--address", ALICE)
    assert told(site, "settings") == {"sender": ALICE, "organisation": "Example", "addresses": [ALICE]}
    assert told(site, "collected") == {"reports": []}
    assert told(site, "send", "--today") == {"outcomes": {}}
    assert told(site, "sent") == {"reports": []}
    site.cluster.command("report", "set", "--stop")
    assert told(site, "settings")["sender"] == ""


def test_nobody_of_a_foreign_domain_reports_for_the_cell(site: Site) -> None:
    with pytest.raises(ClusterError, match="not one of this cell"):
        site.cluster.command("report", "set", "--from", "dmarc@elsewhere.test")


def test_reports_that_arrive_are_listed_and_shown(site: Site) -> None:
    site.cluster.command("report", "set", "--address", ALICE)
    for message in (samples.aggregate(), samples.tls(), samples.ARF):
        send(site, message)
    listed = told(site, "list")["reports"]
    assert [one["kind"] for one in listed] == ["arf", "tls", "dmarc"]
    assert [one["kind"] for one in told(site, "list", "--kind", "tls")["reports"]] == ["tls"]
    shown = told(site, "show", listed[2]["id"][:16])
    assert (shown["organisation"], shown["totals"]) == ("receiver.test", {"messages": 42, "passed": 12})
    assert [row["count"] for row in shown["content"]["rows"]] == [30, 12]
    for one in listed:
        assert "example.test" in site.cluster.command("report", "show", one["id"])
    with pytest.raises(ClusterError, match="no such report"):
        site.cluster.command("report", "show", "ffffffff")
