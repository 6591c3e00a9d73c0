"""One three-node cluster of real processes for all tests that do it no harm, driven by Debian's mail clients.

Take `site` for it, with accounts of your own (`site.cluster.add_accounts`) where what is in a mailbox matters.
A test that kills nodes or changes members makes a `Cluster` of its own, which ends with it.
"""

import pytest

from chaos.cluster import Cluster
from tests.acceptance.site import ALICE, BOB, CAROL, Site

_KEPT = pytest.StashKey[Site]()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """It ends after the last test of this folder, not with the session: while it idles it takes time from others."""
    here: pytest.Dir = request.node.getparent(pytest.Dir)
    if _KEPT not in here.stash:
        cluster = Cluster(tmp_path_factory.mktemp("site") / "cluster")
        here.addfinalizer(cluster.stop)
        cluster.start()
        here.stash[_KEPT] = Site(cluster, cluster.add_accounts("example", (ALICE, BOB, CAROL)))
    return here.stash[_KEPT]
