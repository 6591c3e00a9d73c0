"""The folder of a cluster that gains and loses nodes: names, ports, and what is refused."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli import layout, layout_changes
from cli.layout import Cluster
from cli.output import CommandError
from nodes.config import files as config_files
from nodes.config import sources as config_sources


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return layout.create(tmp_path / "cell", 3, free_base_port(6))


def grown(cluster: Cluster, **options: str) -> Cluster:
    node = layout_changes.write(cluster, layout_changes.next_name(cluster), **options)
    layout.save(layout_changes.with_node(cluster, node))
    return layout.load(cluster.folder)


def test_a_new_node_has_a_sound_configuration_and_asks_the_others_for_its_database(cluster: Cluster) -> None:
    node = grown(cluster).node("n4")
    config = config_sources.load(node.config, {})
    config_files.check_files(config)
    assert (config.node.name, config.node.cluster_id) == ("n4", cluster.id)
    assert list(config.raft.join) == [one.addresses["admin"] for one in cluster.nodes]
    assert config.secrets.cluster_key_file.read_bytes() == (cluster.nodes[0].folder / "cluster.key").read_bytes()


def test_a_new_node_takes_the_ports_after_the_others_unless_something_listens_there(cluster: Cluster) -> None:
    last = int(cluster.nodes[-1].addresses["raft"].rpartition(":")[2])
    with closing(socket.create_server(("127.0.0.1", last + layout.PORTS_PER_NODE + 5))):
        assert grown(cluster).node("n4").addresses["raft"] == f"127.0.0.1:{last + 2 * layout.PORTS_PER_NODE}"


def test_a_node_elsewhere_has_the_addresses_of_its_host(cluster: Cluster) -> None:
    assert grown(cluster, host="192.0.2.7").node("n4").addresses["imap"].startswith("192.0.2.7:")


def test_a_name_is_not_used_again(cluster: Cluster) -> None:
    layout.save(layout_changes.without_node(cluster, "n3"))
    without = layout.load(cluster.folder)
    assert [node.name for node in without.nodes] == ["n1", "n2"]
    assert layout_changes.next_name(without) == "n4"
    with pytest.raises(CommandError, match="a name is not used again") as caught:
        layout_changes.write(without, "n3")
    assert caught.value.hint == "n4"


@pytest.mark.parametrize("name", ["../x", "/x", ".", "", "N4", "a" * 33, "ca", "admin", "n4\n"])
def test_a_name_that_is_none_or_a_folder_of_the_cluster_makes_nothing(cluster: Cluster, name: str) -> None:
    def everything() -> list[Path]:
        return sorted(cluster.folder.parent.rglob("*"))

    before = everything()
    with pytest.raises(CommandError, match="can not be a node's name"):
        layout_changes.write(cluster, name)
    assert everything() == before


def test_what_a_node_replaces_is_remembered_until_it_is_gone(cluster: Cluster) -> None:
    replacing = grown(cluster, replaces="n2")
    assert replacing.node("n4").replaces == "n2"
    layout.save(layout_changes.without_node(replacing, "n2"))
    assert layout.load(cluster.folder).node("n4").replaces == ""


def test_a_folder_that_an_interrupted_attempt_left_is_written_again(cluster: Cluster) -> None:
    layout_changes.write(cluster, "n4")
    assert grown(cluster).node("n4").config.exists()


def test_a_folder_with_a_database_is_left_alone(cluster: Cluster) -> None:
    data = cluster.folder / "n4" / "data"
    data.mkdir(parents=True)
    (data / "data.mdb").write_bytes(b"somebody's")
    with pytest.raises(CommandError, match="has a database"):
        layout_changes.write(cluster, "n4")
    assert (data / "data.mdb").read_bytes() == b"somebody's"


def test_without_the_key_of_the_ca_it_says_where_to_go(cluster: Cluster) -> None:
    (cluster.folder / "ca" / "ca.key").unlink()
    with pytest.raises(CommandError, match="the folder of n4 can not be made") as caught:
        layout_changes.write(cluster, "n4")
    assert "ca/ca.key" in caught.value.hint


def test_nodes_on_several_hosts_need_to_be_told_where_the_next_one_is(cluster: Cluster) -> None:
    moved = cluster.nodes[2]._replace(addresses=dict.fromkeys(layout.PORTS, "192.0.2.7:1"))
    spread = cluster._replace(nodes=(*cluster.nodes[:2], moved))
    with pytest.raises(CommandError, match="on 2 hosts") as caught:
        layout_changes.write(spread, "n4")
    assert caught.value.hint == "--host HOST"
