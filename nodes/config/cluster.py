"""What of the configuration can be set for the whole cell: which keys, and a node's configuration with them.

They stand in the log (actors/settings.py) and win over each node's file, environment and flags: what must be the same
everywhere would not be, if a file that was left behind could have it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nodes.config import sources as config_sources
from nodes.config.node import NodeConfig
from nodes.config.sources import Problem
from nodes.config.words import section_model

PLACE = "set for the whole cell"


def cluster_keys() -> Iterator[str]:
    """Every key that can be set."""
    for section in NodeConfig.model_fields:
        for key in sorted(section_model(section).CLUSTER):
            yield f"{section}.{key}"


def with_cluster_settings(config: NodeConfig, wanted: Mapping[str, Any]) -> tuple[NodeConfig, list[Problem]]:
    """The configuration with these settings over it, and what is wrong with those that can not hold: all others do."""
    problems: list[Problem] = []
    for name, value in wanted.items():
        changed = changed_by(config, name, value)
        if isinstance(changed, NodeConfig):
            config = changed
        else:
            problems += changed
    return config, problems


def changed_by(config: NodeConfig, name: str, value: Any) -> NodeConfig | list[Problem]:
    """The configuration with one key of the cell's, or why it can not be."""
    if name not in set(cluster_keys()):
        return [config_sources.not_a_cluster_key(name, list(cluster_keys()))]
    return config_sources.with_key(config, name, list(value) if isinstance(value, tuple) else value, PLACE)
