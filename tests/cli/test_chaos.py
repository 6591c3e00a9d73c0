"""`mailraft chaos`: what it lists, what it refuses, and that an interrupted run leaves no process."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.chaos import chaos
from cli.supervisor import environment, program


def test_the_list_for_programs_names_what_each_scenario_does() -> None:
    listed = json.loads(CliRunner().invoke(chaos, ["list", "--json"]).output)
    known = {fault["name"] for fault in listed["faults"]}
    leader_kill = next(one for one in listed["scenarios"] if one["name"] == "leader-kill")
    assert leader_kill["faults"] == ["kill"]
    assert leader_kill["missing"] == ""
    assert all(set(one["faults"]) <= known for one in listed["scenarios"])


def test_a_scenario_that_is_not_there_is_refused_with_those_that_are() -> None:
    done = CliRunner().invoke(chaos, ["run", "leader-kiss"])
    assert done.exit_code == 1
    assert "leader-kill" in done.output


@pytest.mark.parametrize(
    "arguments",
    [["--read-only-checks"], ["--cluster", "."], ["leader-kill", "--cluster", ".", "--read-only-checks"], []],
)
def test_a_cluster_that_runs_is_only_looked_at(arguments: list[str]) -> None:
    assert CliRunner().invoke(chaos, ["run", *arguments]).exit_code == 2


def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    run = subprocess.Popen(
        program("chaos", "run", "partition-leader", "--duration", "60"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**environment(), "TMPDIR": str(tmp_path)},
    )
    try:
        wait_for_nodes(tmp_path)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 1
    assert "every process of the cluster has been ended" in said
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def wait_for_nodes(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len([words for words in processes_of(folder) if "node" in words]) == 3:
            return
        time.sleep(0.1)
    pytest.fail("the nodes did not start")


def processes_of(folder: Path) -> list[list[str]]:
    """Command lines that name something in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(word.startswith(str(folder)) for word in words):
                found.append(words)
    return found
