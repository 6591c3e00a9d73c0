"""Nothing that a simulated node runs asks the real machine for time or chance: the seed alone says what happens."""

import json
import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

from chaos.simulation.clock import Clock
from chaos.simulation.faults import Config
from chaos.simulation.machine import machine
from chaos.simulation.run import USUAL, run_seed

REAL = {"os": os, "random": random, "secrets": secrets, "time": time}
NOT_RUN = {  # by a simulated node; or for files, or for names of types, alone
    "actors.credential_admin": {"os", "time"},
    "actors.passwords": {"os"},  # in a thread; a simulated account has none
    "actors.runtime": {"time"},  # unless it is given a clock, as it is
    "actors.sealing": {"os"},  # of credentials and keys
    "actors.tenant_admin": {"time"},  # whoever deletes a tenant; no simulated client does
    "eventlog.ahead": {"os"},
    "eventlog.archive": {"os"},
    "eventlog.archived": {"os"},
    "eventlog.backup": {"os"},
    "eventlog.backup_manifest": {"os"},
    "eventlog.backup_set": {"os"},
    "eventlog.backup_tables": {"os"},
    "eventlog.database_folder": {"os"},
    "eventlog.duties": {"random"},
    "eventlog.engine": {"random"},
    "eventlog.erasure": {"os"},
    "eventlog.raft": {"random"},
    "eventlog.rebuild": {"time"},
    "eventlog.restore": {"os"},
    "eventlog.restore_tables": {"os"},
    "eventlog.segment_keys": {"os"},
    "eventlog.segments": {"os"},
    "eventlog.store": {"os"},
    "eventlog.ticks": {"random"},
    "eventlog.transport": {"time"},
}


def asks_the_real_machine() -> dict[str, list[str]]:
    """While a simulation is entered: modules of the program, and what of the real machine is a name in them."""
    run_seed(1, USUAL._replace(seconds=1.0))  # has imported all that a node needs
    with machine(Clock(), random.Random(1), Config.drawn(random.Random(1))):
        found = {
            name: [kind for kind, real in REAL.items() if getattr(module, kind, None) is real]
            for name, module in sys.modules.items()
            if name.partition(".")[0] in ("actors", "eventlog")
        }
    return {name: kinds for name, kinds in found.items() if kinds}


def test_time_and_chance_of_the_program_are_those_of_the_simulation() -> None:
    """In a process of its own, where nothing else has imported more than a simulation does."""
    code = f"import json; from {__name__} import *; print(json.dumps(asks_the_real_machine()))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unknown = {name: kinds for name, kinds in json.loads(done.stdout).items() if set(kinds) - NOT_RUN.get(name, set())}
    assert not unknown, (
        f"{unknown}: replace them in chaos/simulation/machine.py, or say here that no simulated node asks"
    )
