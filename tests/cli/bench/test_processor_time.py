"""Processor time is that of all of a program's processes: those that run, and those that have ended."""

import subprocess
import sys
import time

from cli.bench.processor_time import cpu_seconds, with_descendants

PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass\\ninput()"])
print("ended", flush=True)
input()
"""


def test_the_time_of_a_child_is_told_while_it_runs_and_when_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        deadline = time.monotonic() + 30
        while cpu_seconds(with_descendants(parent.pid)) < 0.3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(with_descendants(parent.pid)) == 2
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == b"ended\n"
        assert with_descendants(parent.pid) == [parent.pid]
        assert cpu_seconds([parent.pid]) >= 0.3
        parent.stdin.close()


def test_a_process_that_has_gone_has_used_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert cpu_seconds([gone.pid]) == 0
