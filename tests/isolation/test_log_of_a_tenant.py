"""Nothing in the log is found by what is another tenant's, and nothing in the past tells what others had."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from nodes.config.node import split_address
from tests.isolation import tenants_two
from tests.isolation.tenants_two import EVE
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, MALLORY = "alice@example.test", "mallory@zweiter.test"


def exported(client: AdminClient, **wanted: Any) -> list[Any]:
    """What `log export` gets."""
    return [one["record"] for one in client.stream("/v1/log/records", body=wanted) if "record" in one]


def send(cell: layout.Cluster) -> None:
    """One message of eve's to both tenants."""
    with smtplib.SMTP(*split_address(cell.nodes[0].addresses["submission"])) as smtp:
        smtp.login(EVE, tenants_two.PASSWORD)
        smtp.sendmail(EVE, [ALICE, MALLORY], f"From: {EVE}\r\n\r\nhello\r\n")


def test_an_auditor_sees_and_finds_its_own_part_of_each_record_alone(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        world = tenants_two.build(client, cell)
        send(cell)
        auditor = world.callers["auditor"]
        own = next(one["id"] for one in client.pages("/v1/tenants", "tenants") if one["name"] == "example")
        (whole,) = [one for one in exported(client, types=["MessageDelivered"]) if "zweiter" in str(one["by"])]
        assert len(whole["events"]) > 1
        (part,) = exported(auditor, types=["MessageDelivered"])
        assert part == auditor.get(f"/v1/log/{whole['position']}")
        assert [one["tenant"] for one in part["events"]] == [own]
        assert (part["guards"], part["cause"], part["by"]["origin"]) == (None, "", "another tenant")
        assert len(part["bodies"]) < len(whole["bodies"])
        for record in (*exported(auditor), *auditor.get("/v1/log?last=1000")["records"]):
            assert not [marker for marker in world.markers[1:] if marker in str(record)]  # ids and tokens
            assert "zweiter" not in str((record["by"], record["cause"], record["bodies"]))
            assert {one["tenant"] for one in record["events"]} == {own}
        theirs = [one["stream"] for one in whole["events"] if one["tenant"] != own]
        origin = whole["by"]["origin"]
        assert exported(auditor, streams=theirs) == exported(auditor, by=origin) == []
        assert exported(client, by=origin)
        send(cell)
        assert [one["position"] for one in exported(auditor, newest=3)] == [
            one["position"] for one in exported(auditor)[-3:]
        ]

    serving(run, cell, ask)


def test_what_an_alias_of_others_was_is_answered_as_what_nobody_had(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        world = tenants_two.build(client, cell)
        last = client.get("/v1/log?last=1")["position"]
        said = []
        for name in ("info@zweiter.test", "all@zweiter.test", EVE, "nobody@zweiter.test"):
            with pytest.raises(CommandError) as caught:
                world.callers["tenant-admin"].get(f"/v1/mailboxes/{name}?position={last}")
            said.append(str(caught.value).replace(name, "NAME"))
        assert set(said) == {"there was no account NAME then"}
        with pytest.raises(CommandError, match="was an alias then"):
            world.callers["tenant-admin"].get(f"/v1/mailboxes/info@example.test?position={last}")

    serving(run, cell, ask)
