"""One-node cells in this process, made the way `cluster init` makes them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli import layout
from nodes.config import sources as config_sources
from nodes.config.node import NodeConfig

MakeCell = Callable[..., tuple[layout.Cluster, NodeConfig]]


@pytest.fixture
def make_cell(tmp_path: Path) -> MakeCell:
    """make_cell(*overrides): the folder of a new one-node cluster, and its node's configuration."""

    def make(*overrides: str) -> tuple[layout.Cluster, NodeConfig]:
        cluster = layout.create(tmp_path / "cell", 1, free_base_port(1))
        return cluster, config_sources.load(cluster.nodes[0].config, {}, overrides)

    return make
