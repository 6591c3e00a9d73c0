"""A node that gets no memory says so or ends; it does not wait for itself. Found by the scenario memory-pressure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tantivy")

from nodes.fulltext.shard import Shard

OPENS = """
import re, resource, sys
from pathlib import Path
from nodes.fulltext.shard import Shard
from nodes.process import tune_memory

tune_memory()
used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]),) * 2)
try:
    Shard(Path(sys.argv[1]))
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("left_bytes", [500_000, 1_000_000])
def test_an_index_that_gets_no_thread_is_an_error_whatever_the_environment_says_of_stacks(
    tmp_path: Path, left_bytes: int
) -> None:
    Shard(tmp_path, make=True)
    ended = subprocess.run(
        [sys.executable, "-c", OPENS, str(tmp_path), str(left_bytes)],
        env={**os.environ, "RUST_BACKTRACE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.startswith("the index could not be opened: ")
