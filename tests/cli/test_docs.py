"""The reference pages are what the program says. To write them: MAILRAFT_REWRITE=1 pytest tests/cli/test_docs.py"""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.reference import pages
from cli.supervisor import environment, program

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(pages()))
def test_reference_page_is_current(name: str) -> None:
    path = FOLDER / name
    if os.environ.get("MAILRAFT_REWRITE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[name])
    assert path.read_text() == pages()[name], "MAILRAFT_REWRITE=1 pytest tests/cli/test_docs.py"


def test_the_docs_command_and_this_test_see_the_same_pages() -> None:
    """A command that ran before must not change what the pages say of it (its help option)."""
    done = subprocess.run(program("docs", str(FOLDER)), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_docs_command_tells_which_pages_are_not_current_and_writes_them(tmp_path: Path) -> None:
    runner = CliRunner()
    checked = runner.invoke(main, ["docs", str(tmp_path)])
    assert checked.exit_code == 1
    assert "not current: api.md, commands.md, configuration.md, cli.md, errors.md, metrics.md" in checked.stderr
    assert runner.invoke(main, ["docs", "--write", str(tmp_path)]).exit_code == 0
    assert runner.invoke(main, ["docs", str(tmp_path)]).exit_code == 0
