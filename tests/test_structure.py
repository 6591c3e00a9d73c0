"""The import direction between the folders holds, and the check that says so can fail."""

from pathlib import Path

import pytest

from scripts.check_imports import check_tree

TOP = Path(__file__).resolve().parent.parent
PYPROJECT = '[project]\nname = "x"\ndependencies = ["argon2-cffi>=23"]\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    for folder in ("eventlog", "actors", "nodes", "cli", "chaos"):
        (tmp_path / folder).mkdir()
    return tmp_path


def test_this_repository_keeps_the_import_direction_and_declares_what_it_imports() -> None:
    assert [str(violation) for violation in check_tree(TOP)] == []


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("eventlog", "import actors"),
        ("eventlog", "from nodes.config.node import NodeConfig"),
        ("actors", "def late():\n    from nodes import config"),
        ("nodes", "import cli.main"),
        ("nodes", "import chaos"),
        ("actors", "import numpy"),
    ],
)
def test_an_import_against_the_direction_is_found(tree: Path, folder: str, source: str) -> None:
    (tree / folder / "wrong.py").write_text(source)
    assert [violation.path.name for violation in check_tree(tree)] == ["wrong.py"]


def test_imports_along_the_direction_pass(tree: Path) -> None:
    (tree / "actors" / "a.py").write_text("import argon2, json\nfrom eventlog import record\nfrom . import b")
    (tree / "cli" / "c.py").write_text("from actors import a\nfrom chaos import d\nimport nodes, eventlog")
    assert check_tree(tree) == []
