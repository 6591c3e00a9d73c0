"""`mailraft backup` leaves no doubt whether a backup is encrypted."""

from pathlib import Path

from click.testing import CliRunner

from cli.main import main
from eventlog.store import Store
from tests.eventlog.opened import MAP_BYTES


def test_a_backup_is_encrypted_or_not_and_never_both(tmp_path: Path) -> None:
    Store(tmp_path / "n1" / "data", MAP_BYTES, durable=False).close()
    keys, folder = tmp_path / "keys", tmp_path / "backup"
    assert CliRunner().invoke(main, ["backup", "key", str(keys)]).exit_code == 0
    words = ["backup", "create", str(folder), "--data", str(tmp_path / "n1"), "--unencrypted", "--key-file", str(keys)]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 1
    assert "--unencrypted and --key-file exclude each other" in found.stderr
    assert not folder.exists()
