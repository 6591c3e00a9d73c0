"""`mailraft log verify` where a node is not there to be asked."""

from pathlib import Path

from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
from cli.main import main


def test_verifying_all_nodes_names_the_one_that_does_not_answer(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 3, free_base_port(3))
    result = CliRunner().invoke(main, ["log", "verify", "--all", "--cluster", str(cluster.folder)])
    assert result.exit_code != 0
    assert "n1 does not answer" in result.stderr
    assert "mailraft log verify --node NAME" in result.stderr
