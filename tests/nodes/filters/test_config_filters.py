"""What may stand in [filters], and how a mistake is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli import layout
from nodes.config import sources as config_sources
from nodes.config.node import NodeConfig
from nodes.config.sources import ConfigError


@pytest.fixture
def load(tmp_path: Path) -> Any:
    node = layout.create(tmp_path / "cell", 1, 12000).nodes[0]

    def loaded(*settings: str) -> NodeConfig:
        return config_sources.load(node.config, {}, settings)

    return loaded


def test_filters_are_named_by_their_sockets(load: Any) -> None:
    config = load("filters.milters=a=unix:/run/a.sock,b=[::1]:8890", "filters.rspamd=rspamd.internal:11333")
    assert config.filters.milters == ("a=unix:/run/a.sock", "b=[::1]:8890")
    assert config.filters.rspamd == "rspamd.internal:11333"
    assert config.filters.clamav == ""


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("filters.clamav=unix:clamd.ctl", "whole path"),
        ("filters.clamav=/run/clamd.ctl", "must be host:port"),
        ("filters.milters=/run/a.sock", "must be name=socket"),
        ("filters.milters=a=127.0.0.1:1,a=127.0.0.1:2", "a name of its own"),
        ("filters.milters=rspamd=127.0.0.1:1", "a name of its own"),
        ("filters.order=rspamd,clamav", "each once"),
        ("rspamd.when_down=discard", '"accept" or "tempfail"'),
        ("milter.listeners=imap", "listeners"),
    ],
)
def test_a_mistake_is_told_with_what_is_allowed(load: Any, setting: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(setting)
