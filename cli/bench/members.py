"""Starts the member processes of `mailraft bench log` and asks them; ends them in every case."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.bench.processor_time import cpu_seconds
from cli.supervisor import environment

ELECTION_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


class MemberError(Exception):
    """A member failed or ended; the text says which and why."""


class Members:
    """`with Members(folder, ("n1", "n2", "n3")) as members:` each runs under folder/NAME/mailraft.toml."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.names = names
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        try:
            for name in self.names:
                self._start(name)
            self.leader = self._wait_for_leader()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def followers(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name != self.leader)

    def ask(self, name: str, do: str, **facts: Any) -> dict[str, Any]:
        """One request to one member. Raises MemberError."""
        return self.ask_all((name,), do, **facts)[name]

    def ask_all(self, names: tuple[str, ...], do: str, **facts: Any) -> Mapping[str, dict[str, Any]]:
        """The same request to several members at once; their answers by name. Raises MemberError."""
        line = json.dumps({"do": do, **facts}) + "\n"
        for name in names:
            stdin = self._processes[name].stdin
            assert stdin is not None
            stdin.write(line)
            stdin.flush()
        return {name: self._answer(name, do) for name in names}

    def cpu_seconds(self) -> float:
        """Processor time that all members have used so far, user and system."""
        return cpu_seconds(process.pid for process in self._processes.values())

    def stop(self) -> None:
        for process in self._processes.values():
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            process.kill()
            process.wait()

    def _start(self, name: str) -> None:
        with open(self._folder / name / "member.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.bench.member", str(self._folder / name / "mailraft.toml")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                text=True,
            )

    def _answer(self, name: str, do: str) -> dict[str, Any]:
        stdout = self._processes[name].stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            said = (self._folder / name / "member.log").read_text(errors="replace")[-1500:]
            raise MemberError(f"{name} ended at {do}:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MemberError(f"{name}, {do}: {answer['error']}")
        return answer

    def _wait_for_leader(self) -> str:
        deadline = time.monotonic() + ELECTION_TIMEOUT_S
        while time.monotonic() < deadline:
            answers = self.ask_all(self.names, "status")
            leaders = {answer["leader"] for answer in answers.values()}
            if len(leaders) == 1 and (leader := leaders.pop()) is not None:
                return str(leader)
            time.sleep(0.1)
        raise MemberError(f"no leader within {ELECTION_TIMEOUT_S:.0f} s")
