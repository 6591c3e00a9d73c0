"""A process is known by its command line, never by its number alone."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.process import arguments, raise_file_limit, read_pid, runs_node

Sleep = Callable[..., int]


@pytest.fixture
def sleep(request: pytest.FixtureRequest, tmp_path: Path) -> Sleep:
    """sleep(*words): a process with these words on its command line, in tmp_path; gives its id."""

    def start(*words: str) -> int:
        code = "import time; print(flush=True); time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        request.addfinalizer(process.wait)
        request.addfinalizer(process.kill)
        return process.pid

    return start


@pytest.mark.parametrize(
    "words", [("--config", "n1/mailraft.toml"), ("--config=n1/mailraft.toml",), ("--config", "DIR")]
)
def test_a_node_is_known_by_its_configuration_however_it_is_named(
    sleep: Sleep, tmp_path: Path, words: tuple[str, ...]
) -> None:
    config = tmp_path / "n1" / "mailraft.toml"
    pid = sleep("node", "run", *(word.replace("DIR", str(config)) for word in words))
    assert runs_node(pid, config)
    assert not runs_node(pid, tmp_path / "n2" / "mailraft.toml")


@pytest.mark.parametrize("words", [(), ("node", "run"), ("node", "run", "--config"), ("--config", "n1/mailraft.toml")])
def test_another_process_is_no_node(sleep: Sleep, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert not runs_node(sleep(*words), tmp_path / "n1" / "mailraft.toml")


def test_a_process_that_is_gone_has_no_arguments() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert arguments(process.pid) == []
    assert arguments(os.getpid())


@pytest.mark.parametrize(("text", "pid"), [("123\n", 123), ("", None), ("x", None)])
def test_a_pid_file_holds_a_number_or_nothing(tmp_path: Path, text: str, pid: int | None) -> None:
    (tmp_path / "pid").write_text(text)
    assert read_pid(tmp_path / "pid") == pid
    assert read_pid(tmp_path / "none") is None


def test_a_node_may_hold_as_many_connections_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_was_freed_is_given_back_to_the_system() -> None:
    code = """
from chaos.memory import anonymous_kib
from nodes.process import give_memory_back, tune_memory
import os
tune_memory()
blocks = [bytes(32 * 1024) for _ in range(2000)]
keeper = bytes(1024)  # at the top of the heap: what is below it is not given back by itself
full = anonymous_kib(os.getpid())
del blocks
give_memory_back()
print(full - anonymous_kib(os.getpid()))
"""
    given_back = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(given_back) > 50 * 1024
