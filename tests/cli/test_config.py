"""`mailraft config` on files: what holds and why, everything that is wrong at once, what differs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chaos.cluster import free_base_port
from cli import layout
from cli.main import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration of a node, with the files that it names."""
    return layout.create(tmp_path / "cell", 1, free_base_port(1)).nodes[0].config


def config(*arguments: object) -> Result:
    return CliRunner(env={"MAILRAFT_CLUSTER": None}).invoke(main, ["config", *map(str, arguments)])


def test_show_says_of_each_key_that_is_set_where_its_value_comes_from(file: Path) -> None:
    result = config("show", "--config", file, "--set", "limits.recipients=700", "--json")
    settings = json.loads(result.stdout)["settings"]
    assert settings["limits.recipients"] == {"value": "700", "kind": "flag", "source": "--set limits.recipients"}
    assert str(file) in settings["node.name"]["source"]
    assert result.exit_code == 0


def test_check_finds_a_sound_file_sound_and_names_all_that_is_wrong_with_another(file: Path) -> None:
    assert config("check", "--config", file).exit_code == 0
    file.write_text(file.read_text() + "\n[limts]\nrecipients = 7\n")
    result = config("check", "--config", file, "--set", "limits.recipients=many", "--json")
    problems = json.loads(result.stdout)["problems"]
    assert result.exit_code == 1
    assert len(problems) == 2
    assert "limits" in str(problems)  # the nearest right name


def test_diff_tells_what_differs_and_what_takes_a_restart(file: Path) -> None:
    other = file.with_name("other.toml")
    other.write_text(file.read_text() + "\n[queue]\nconcurrency = 7\n[fulltext]\nindex = false\n")
    changes = json.loads(config("diff", file, other, "--json").stdout)["changes"]
    assert {name: (one["after"], one["reload"]) for name, one in changes.items()} == {
        "queue.concurrency": ("7", True),
        "fulltext.index": ("false", False),
    }
    assert config("diff", file).exit_code == 2


def test_explain_tells_what_a_key_may_be_and_the_nearest_name_of_one_that_there_is_not() -> None:
    assert "limits.recipients" in config("explain", "limits.recipients").output
    result = config("explain", "limits.recipient")
    assert result.exit_code == 1
    assert "limits.recipients" in result.output
