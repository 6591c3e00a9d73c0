"""Which file a command of one node reads, with a real /etc/mailraft/mailraft.toml: in a mount namespace of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.supervisor import environment

# /etc is this namespace's alone; each answer is a value, and where it is from
ASK = """
import json, os, pathlib, subprocess, sys
from click.testing import CliRunner
from cli.main import main

file, here, away = map(pathlib.Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "none", "/etc"], check=True)
found = pathlib.Path("/etc/mailraft/mailraft.toml")
text = file.read_text()

def put(path, number):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{text}\\n[queue]\\nconcurrency = {number}\\n")

def ask(*flags, **variables):
    done = CliRunner(env={"MAILRAFT_CONFIG": None, **variables}).invoke(main, ["config", "show", "--json", *flags])
    if done.exit_code:
        return [done.exit_code, done.output]
    found = json.loads(done.stdout)["settings"]["queue.concurrency"]
    return [found["value"], found["source"]]

os.chdir(away)
answers = [ask()]
put(found, 201)
answers.append(ask())
os.chdir(here)
put(here / "mailraft.toml", 202)
answers.append(ask())
put(file, 203)
answers.append(ask(MAILRAFT_CONFIG=str(file)))
answers.append(ask("--config", str(file), MAILRAFT_CONFIG="/nowhere"))
os.chdir(away)
answers.append(ask(MAILRAFT_QUEUE__CONCURRENCY="204"))
answers.append(ask("--set", "queue.concurrency=205", MAILRAFT_QUEUE__CONCURRENCY="204"))
print(json.dumps(answers))
"""


def test_a_file_is_found_in_this_folder_before_etc_and_flags_and_variables_win_over_both(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("unshare can make no namespace here")
    file = layout.create(tmp_path / "cell", 1, free_base_port(1)).nodes[0].config
    here, away = tmp_path / "here", tmp_path / "away"
    here.mkdir()
    away.mkdir()
    command = [unshare, "-rm", sys.executable, "-c", ASK, *map(str, (file, here, away))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    (status, text), *answers = json.loads(done.stdout)
    assert status == 1
    assert "no configuration found" in text
    assert "/etc/mailraft/mailraft.toml" in text
    last = len(file.read_text().splitlines())
    assert answers == [
        ["201", f"/etc/mailraft/mailraft.toml, line {last}"],
        ["202", f"mailraft.toml, line {last}"],
        ["203", f"{file}, line {last}"],
        ["203", f"{file}, line {last}"],
        ["204", "environment variable MAILRAFT_QUEUE__CONCURRENCY"],
        ["205", "--set queue.concurrency"],
    ]
