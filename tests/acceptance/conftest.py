"""One three-node cluster of real processes for all acceptance tests of a run, driven by Debian's mail clients."""

from collections.abc import Iterator

import pytest

from chaos.cluster import Cluster
from tests.acceptance.site import ALICE, BOB, CAROL, Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Cluster(tmp_path_factory.mktemp("site") / "cluster") as cluster:
        yield Site(cluster, cluster.add_accounts("example", (ALICE, BOB, CAROL)))
