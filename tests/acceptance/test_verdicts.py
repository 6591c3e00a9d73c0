"""`mailraft verdicts` against a running cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chaos.cluster import ClusterError
from tests.acceptance.site import Site


def shown(site: Site) -> Any:
    return json.loads(site.cluster.command("verdicts", "show", "--json"))


def test_the_policy_is_changed_shown_and_changed_back(site: Site) -> None:
    assert shown(site)["policy"]["dmarc"] == "enforce"
    site.cluster.command(
        "verdicts", "set", "--dmarc", "mark", "--on-temporary", "defer", "--trust", "Lists.Example.TEST"
    )
    found = shown(site)["policy"]
    assert (found["dmarc"], found["on_temporary"], found["sealers"]) == ("mark", "defer", ["lists.example.test"])
    site.cluster.command(
        "verdicts", "set", "--dmarc", "enforce", "--on-temporary", "accept", "--distrust", "lists.example.test"
    )
    assert shown(site)["policy"]["sealers"] == []


def test_a_tenant_has_a_mode_of_its_own(site: Site) -> None:
    tenant = json.loads(site.cluster.command("tenant", "list", "--json"))["tenants"][0]["name"]
    site.cluster.command("verdicts", "tenant", tenant, "mark")
    assert shown(site)["tenants"] == {tenant: "mark"}
    site.cluster.command("verdicts", "tenant", tenant, "inherit")
    assert shown(site)["tenants"] == {}


def test_a_tenant_or_a_sealer_that_there_is_not_is_refused(site: Site) -> None:
    with pytest.raises(ClusterError):
        site.cluster.command("verdicts", "tenant", "nobody", "mark")
    with pytest.raises(ClusterError, match="trust"):
        site.cluster.command("verdicts", "set", "--trust", "not a domain")
