"""The published test suite of RFC 7208, every test of it, over a zone in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodes.verdicts import spf
from tests.nodes.verdicts.zone import Zone

SUITE = Path(__file__).resolve().parents[4] / "shared" / "data" / "spf" / "rfc7208-tests.yml"
DEFAULT_EXPLANATION = "SPF fail - not authorized"


def _cases() -> list[Any]:
    if not SUITE.is_file():
        return []
    scenarios = yaml.safe_load_all(SUITE.read_text(encoding="utf-8"))
    return [
        pytest.param(one["zonedata"], test, id=f"{one['description']}: {name}".replace(" ", "-"))
        for one in scenarios
        for name, test in one["tests"].items()
    ]


CASES = _cases()


def _zone(data: dict[str, list[Any]]) -> Zone:
    """TXT where the suite has TXT, else its SPF records as TXT, as its head comment wants it."""
    records: dict[str, list[tuple[str, Any]]] = {}
    for name, entries in data.items():
        pairs = [(kind, value) for one in entries for kind, value in _pairs(one)]
        has_txt = any(kind == "TXT" for kind, _ in pairs)
        records[str(name)] = [
            ("TXT" if kind == "SPF" else kind, value)
            for kind, value in pairs
            if not (kind == "SPF" and has_txt) and value != "NONE"
        ]
    return Zone(records)


def _pairs(entry: Any) -> list[tuple[str, Any]]:
    return [("TIMEOUT", "")] if entry == "TIMEOUT" else list(entry.items())


@pytest.mark.skipif(not CASES, reason=f"the SPF test suite is not at {SUITE}")
@pytest.mark.parametrize(("zone", "test"), CASES)
def test_the_suite_of_rfc_7208(zone: dict[str, list[Any]], test: dict[str, Any]) -> None:
    # nothing is an address without a colon here: the suite's senders are whole mailboxes or empty
    found = asyncio.run(spf.judge(_zone(zone), test["host"], test["mailfrom"], test["helo"]))
    allowed = test["result"] if isinstance(test["result"], list) else [test["result"]]
    assert found.result in allowed, test.get("description", "")
    wanted = test.get("explanation")
    if wanted is not None and found.result == "fail":
        assert found.explanation == (DEFAULT_EXPLANATION if wanted == "DEFAULT" else wanted)
