"""The alerts and the dashboard in docs/monitoring: valid, and about metrics that a node has."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from nodes.metrics import Metrics
from nodes.server import Node
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]
PLACE = {"instance": "n1", "job": "mailraft"}
FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def known() -> dict[str, set[str]]:
    """The names that a scrape shows, and the labels of each."""
    found = [one for one in vars(Metrics("n1")).values() if isinstance(one, MetricWrapperBase)]
    more = {"le", "instance", "job"}
    return {one._name + suffix: {*one._labelnames, *more} for one in found for suffix in SUFFIXES[str(one._type)]}


def expressions() -> list[str]:
    rules = re.findall(r"^\s+expr: (.+)$", (FOLDER / "rules.yml").read_text(), re.MULTILINE)
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return rules + [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_named_exists(expression: str) -> None:
    metrics = known()
    named = re.findall(r"(mailraft_\w+)(?:\{([^}]*)\})?", expression)
    assert named or expression.startswith("up{")
    for name, selectors in named:
        assert name in metrics
        assert set(re.findall(r"(\w+)\s*=", selectors)) <= metrics[name]


def test_promtool_takes_the_rules() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ["promtool", "check", "rules", str(FOLDER / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr


def test_promtool_finds_every_metric_well_named_and_described() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    text = Metrics("n1").exposition()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_an_alert_fires_where_a_cell_has_no_leader(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    test = {
        "rule_files": [str(FOLDER / "rules.yml")],
        "tests": [{
            "interval": "15s",
            "input_series": [{"series": 'mailraft_raft_role{instance="n1", role="leader"}', "values": "0x20"}],
            "alert_rule_test": [{
                "eval_time": "2m", "alertname": "MailraftNoLeader", "exp_alerts": [{
                    "exp_labels": {"severity": "critical"},
                    "exp_annotations": {
                        "summary": "the cell has no leader: mail is put off, mailboxes are read-only",
                        "description": "A majority of the nodes must be up and reach each other: "
                        "mailraft cluster status.",
                    },
                }],
            }],
        }],
    }  # fmt: skip
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(test))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_fires_at_the_first_critical_error_and_names_its_code(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    labels = 'instance="n1", category="internal", severity="critical"'
    test = {
        "rule_files": [str(FOLDER / "rules.yml")],
        "tests": [{
            "interval": "15s",
            "input_series": [
                {"series": f'mailraft_errors_total{{{labels}, code="fold_stalled"}}', "values": "0x4 1x20"},
                {"series": f'mailraft_errors_total{{{labels}, code="body_missing"}}', "values": "0x24"},
            ],
            "alert_rule_test": [{
                "eval_time": "2m", "alertname": "MailraftCriticalError", "exp_alerts": [{
                    "exp_labels": {"severity": "critical", "instance": "n1", "code": "fold_stalled"},
                    "exp_annotations": {
                        "summary": "fold_stalled at n1: the mail or the service is at stake",
                        "description": "docs/reference/errors.md says what to do about each code; "
                        "the node's log has the lines.",
                    },
                }],
            }],
        }],
    }  # fmt: skip
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(test))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_fires_of_a_node_that_is_well(tmp_path: Path, run: Run, make_cell: MakeCell) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")

    async def scraped() -> bytes:
        _, config = make_cell()
        async with Node(config).running() as state:
            async with asyncio.timeout(30):
                while state.unready():
                    await asyncio.sleep(0.05)
            state.measure()
            return state.metrics.exposition()

    rules = (FOLDER / "rules.yml").read_text()
    used = set(re.findall(r"mailraft_\w+", rules))
    families = text_string_to_metric_families(run(scraped()).decode())
    samples = [one for family in families for one in family.samples if one.name in used]
    assert len({one.name for one in samples}) > 8
    series = [("up", {}, 1.0), *((one.name, one.labels, one.value) for one in samples)]
    shown = [
        (f"{name}{{{','.join(f'{key}={json.dumps(label)}' for key, label in (labels | PLACE).items())}}}", value)
        for name, labels, value in series
    ]
    day = {"eval_time": "1d", "exp_alerts": []}
    test = {
        "rule_files": [str(FOLDER / "rules.yml")],
        "tests": [{
            "interval": "1m",
            "input_series": [{"series": series, "values": f"{value!r}x1440"} for series, value in shown],
            "alert_rule_test": [day | {"alertname": name} for name in re.findall(r"alert: (\w+)", rules)],
        }],
    }  # fmt: skip
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(test))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
