"""What people see: rows that stay rows in a narrow terminal."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cli import layout
from cli.output import counted, json_text, one_line, print_table, size_text
from cli.supervisor import environment, program


def in_terminal(columns: int, command: list[str]) -> list[str]:
    """The lines that a command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    env = environment() | {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 65536):
            said += data
    except OSError:
        pass  # how a terminal ends
    os.close(ours)
    assert process.wait() == 0, said
    return said.decode().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


def test_a_row_is_one_line_in_any_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", ">size"), [("x" * 300, 1), ("y z " * 80, 22)], "none")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["name", "size"]
    assert second.split() == ["x" * 300, "1"]
    assert third.split() == [*["y", "z"] * 80, "22"]
    print_table(("a", "b"), [("x" * 300, "y"), ("\x1b[2J\n", "日本")], "none")
    assert capsys.readouterr().out.splitlines()[2] == "\ufffd[2J\ufffd" + " " * 297 + "日本"
    code = "from cli.output import print_table; print_table(('a', 'b'), [('word ' * 30, 'c' * 90)], '')"
    lines = in_terminal(80, [sys.executable, "-c", code])
    assert [line.split() for line in lines] == [["a", "b"], [*["word"] * 30, "c" * 90]]


def test_cluster_status_fits_80_columns(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    nodes = layout.create(folder, 3, 51000).nodes
    lines = in_terminal(80, program("cluster", "status", str(folder)))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["node", "pid", "role", "term", "commit", "applied", "chain", "ready"]
    assert [line.split()[0] for line in lines[1:4]] == ["n1", "n2", "n3"]
    for node in nodes:
        shown = "  ".join(f"{use} {node.addresses[use]}" for use in ("smtp", "imap", "http"))
        assert f"{node.name}  {shown}" in lines
        assert f"{node.name}  not ready: not running" in lines


def test_a_line_that_is_drawn_over_is_cut_to_its_width() -> None:
    assert one_line("n1 [ready]  n2 ready", 30).plain == "n1 [ready]  n2 ready"
    assert one_line("x" * 100, 20).plain == "x" * 19 + "…"


def test_numbers_of_things_and_sizes_are_written_for_people() -> None:
    assert [counted(count, "segment") for count in (0, 1, 2)] == ["0 segments", "1 segment", "2 segments"]
    assert (counted(1, "body"), counted(2, "body"), counted(2, "mailbox")) == ("1 body", "2 bodies", "2 mailboxes")
    assert [size_text(size) for size in (1, 999, 5183, 999_949, 999_950, 64_000_000, 1_300_000_000, 10**13)] == [
        *("1 byte", "999 bytes", "5.2 kB", "999.9 kB", "1.0 MB", "64.0 MB", "1.3 GB", "10.0 TB"),
    ]


def test_json_that_is_shown_controls_no_terminal_and_stays_the_same_json() -> None:
    document = {"by": "\x9b2J \u202egnp.exe", "name": "J\u00fcrgen \U000e0041", "plain": "\u65e5\u672c"}
    shown = json_text(document, shown=True, indent=2)
    assert all(one.isprintable() or one == "\n" for one in shown)
    assert "J\u00fcrgen" in shown
    assert json.loads(shown) == document
    assert json_text(document, shown=False) == json.dumps(document, ensure_ascii=False)
