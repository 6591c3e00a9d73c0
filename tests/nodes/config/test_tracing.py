"""Tracing without what it needs is told before a node starts, with what to install."""

from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli import layout
from nodes.config import rules, sources, tracing


def test_tracing_without_the_extra_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = layout.create(tmp_path / "cell", 1, free_base_port(1)).nodes
    wanted = {"MAILRAFT_TRACING__ENABLED": "true"}
    assert sources.load(node.config, wanted).tracing.enabled
    monkeypatch.setattr(rules, "is_installed", lambda: False)
    with pytest.raises(sources.ConfigError) as caught:
        sources.load(node.config, wanted)
    assert "pip install 'mailraft[tracing]'" in str(caught.value)
    assert "tracing.enabled" in str(caught.value)
    sources.load(node.config, {})


def test_an_endpoint_is_a_url() -> None:
    for wrong in ("", "collector:4318", "ftp://collector/v1/traces", "http:// "):
        with pytest.raises(ValueError, match="collector"):
            tracing.TracingSection(endpoint=wrong)
    assert tracing.TracingSection(endpoint="https://otel.example.test/v1/traces").sample == 1.0
