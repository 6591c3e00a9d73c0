"""`make run`: its script starts a cluster, ends with it, and stops no cluster but its own."""

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli.supervisor import environment, program
from nodes.process import arguments, read_pid

TOP = Path(__file__).resolve().parent.parent.parent
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def start(tmp_path: Path, folder: Path) -> Iterator[Start]:
    """start(base_port): the script, with the `mailraft` of this tree; nothing of it is left running."""
    (tmp_path / "bin").mkdir()
    mailraft = tmp_path / "bin" / "mailraft"
    mailraft.write_text(f'#!/bin/sh\nexec {shlex.join(program())} "$@"\n')
    mailraft.chmod(0o755)
    env = environment() | {"PATH": f"{mailraft.parent}:{os.environ['PATH']}"}
    started: list[subprocess.Popen[str]] = []

    def run(base_port: str = "") -> subprocess.Popen[str]:
        words = [str(TOP / "scripts" / "run-cluster"), str(folder), base_port]
        process = subprocess.Popen(
            words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in found if any(word.startswith(str(folder)) for word in arguments(pid))]


def group_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the script's process group that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == process.pid and state != "Z":
                found.append(int(entry.name))
    return found


def wait_for_cluster(process: subprocess.Popen[str]) -> None:
    """Reads until the last line that the script prints."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C stops the cluster" in line:
            return
    raise AssertionError("".join(said))


def test_a_second_run_leaves_the_first_alone_and_a_signal_ends_all_of_it(start: Start, folder: Path) -> None:
    first = start(str(free_base_port(3)))
    wait_for_cluster(first)
    supervisor = read_pid(folder / "supervisor.lock")
    second = start()
    said, _ = second.communicate(timeout=60)
    assert (second.returncode, "is running already" in said) == (1, True)
    assert (read_pid(folder / "supervisor.lock"), first.poll()) == (supervisor, None)
    assert len(processes_of(folder)) >= 4  # the supervisor and three nodes
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert processes_of(folder) == []
    assert group_of(first) == []


def test_the_script_ends_when_its_supervisor_does(start: Start, folder: Path) -> None:
    process = start(str(free_base_port(3)))
    wait_for_cluster(process)
    supervisor = read_pid(folder / "supervisor.lock")
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, "the supervisor has ended; read " in said) == (1, True)
    deadline = time.monotonic() + 20
    while processes_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_cluster_that_was_stopped_from_elsewhere_is_no_failure(start: Start, folder: Path) -> None:
    process = start(str(free_base_port(3)))
    wait_for_cluster(process)
    subprocess.run(program("cluster", "down", str(folder)), env=environment(), check=True, capture_output=True)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, said.splitlines()[-1]) == (0, "stopped")


def test_another_base_port_than_the_folder_was_made_with_is_told(start: Start, folder: Path) -> None:
    base_port = free_base_port(3)
    subprocess.run(
        program("cluster", "init", str(folder), "--base-port", str(base_port)), env=environment(), check=True
    )
    process = start(str(base_port + 1000))
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"was made with BASE_PORT={base_port}: remove it, or RUN_DIR=other" in said
    assert processes_of(folder) == []


def test_where_ports_are_in_use_nothing_is_left_and_the_way_on_is_named(start: Start, folder: Path) -> None:
    base_port = free_base_port(3)
    with socket.create_server(("127.0.0.1", base_port)):
        process = start(str(base_port))
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "in use by another program" in said
    assert f"try: make run BASE_PORT={base_port + 1000}, or stop that program" in said
    assert "--base-port" not in said
    assert not folder.exists()


def test_make_help_names_what_run_takes() -> None:
    said = subprocess.run(["make", "-C", str(TOP), "help"], capture_output=True, text=True, check=True).stdout
    assert "RUN_DIR" in said
    assert "BASE_PORT" in said
