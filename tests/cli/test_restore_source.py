"""Of several nodes the one is read that has the most; what can not be trusted is passed over, and said."""

from pathlib import Path

import pytest

from cli import layout
from cli.output import CommandError
from cli.restore_source import cell_id, choose_node, find_source, open_backup
from eventlog.backup import StoreFeed, grow
from eventlog.backup_set import BackupSet
from eventlog.restore import find_cut
from eventlog.segment_keys import add_key
from eventlog.store import Store, open_for_reading
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.folded import CELL, Log, record


@pytest.fixture
def cluster(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "cluster", 3, 20000)


def fill(node: layout.Node, count: int) -> None:
    """A stopped node that has folded so many records."""
    store = Store(node.folder / "data", MAP_BYTES, durable=False)
    log = Log(store)
    for number in range(count):
        log.add(record(number))
    log.flush()
    store.close()


def test_the_longest_log_of_stopped_nodes_is_read_to_its_end(cluster: layout.Cluster) -> None:
    for node, count in zip(cluster.nodes, (3, 7, 5)):
        fill(node, count)
    assert choose_node(cluster.folder)[0].folder == cluster.nodes[1].folder
    with find_source(cluster.folder, None, None) as found:
        assert find_cut(found.source, None, None).position == 7
        assert found.source.cell == cluster.id == cell_id(cluster.nodes[0].folder)
        assert found.cluster_key.hex() == (cluster.nodes[1].folder / "cluster.key").read_text().strip()


def test_a_damaged_database_is_passed_over(cluster: layout.Cluster) -> None:
    for node, count in zip(cluster.nodes, (3, 7, 5)):
        fill(node, count)
    (cluster.nodes[1].folder / "data" / "data.mdb").write_bytes(b"damaged" * 5000)
    chosen, notes = choose_node(cluster.folder)
    assert chosen.folder == cluster.nodes[2].folder
    assert len(notes) == 1
    assert str(cluster.nodes[1].folder) in notes[0]


@pytest.mark.parametrize("place", ["n2", "n2/data"])
def test_a_nodes_folder_and_its_data_folder_are_the_same_source(cluster: layout.Cluster, place: str) -> None:
    fill(cluster.nodes[1], 4)
    with find_source(cluster.folder / place, None, None) as found:
        assert find_cut(found.source, None, None).position == 4
        assert found.source.cell == cluster.id


def test_a_data_folder_without_the_clusters_key_needs_it_by_name(cluster: layout.Cluster) -> None:
    node = cluster.nodes[0]
    fill(node, 1)
    key = (node.folder / "cluster.key").rename(cluster.folder / "kept elsewhere")
    with pytest.raises(CommandError, match="no key of the old cluster") as caught, find_source(node.folder, None, None):
        pass
    assert "--cluster-key" in caught.value.hint
    with find_source(node.folder, None, key) as found:
        assert found.cluster_key.hex() == key.read_text().strip()


def test_a_folder_without_a_database_is_refused(cluster: layout.Cluster, tmp_path: Path) -> None:
    for place in (cluster.folder, tmp_path):
        with pytest.raises(CommandError, match="no database to read from"):
            choose_node(place)


def test_who_gives_a_key_is_told_that_a_backup_in_clear_may_be_anybodys(
    cluster: layout.Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(cluster.nodes[0], 3)
    with open_for_reading(cluster.nodes[0].folder / "data") as store:
        grow(BackupSet.create(tmp_path / "clear", CELL), StoreFeed(store, CELL), lambda: 0)
    add_key(tmp_path / "keys")
    open_backup(tmp_path / "clear", None)
    assert not capsys.readouterr().err
    open_backup(tmp_path / "clear", tmp_path / "keys")
    assert "is not encrypted" in capsys.readouterr().err
