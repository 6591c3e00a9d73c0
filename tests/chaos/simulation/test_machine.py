"""Nothing that a simulated node runs asks the real machine for time or chance: the seed alone says what happens."""

import os
import random
import secrets
import sys
import time

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
    "eventlog.archive": {"os"},
    "eventlog.archived": {"os"},
    "eventlog.backup_manifest": {"os"},
    "eventlog.backup_set": {"os"},
    "eventlog.checkpoint": {"os", "time"},
    "eventlog.duties": {"random"},
    "eventlog.engine": {"random"},
    "eventlog.erasure": {"os"},
    "eventlog.raft": {"random"},
    "eventlog.rebuild": {"time"},
    "eventlog.rewrite": {"os"},
    "eventlog.restore": {"os"},
    "eventlog.segment_keys": {"os"},
    "eventlog.segments": {"os"},
    "eventlog.store": {"os"},
    "eventlog.transport": {"time"},
    "eventlog.verify": {"os"},
}


def test_time_and_chance_of_the_program_are_those_of_the_simulation() -> None:
    run_seed(1, USUAL._replace(seconds=1.0))  # has imported all that a node needs
    with machine(Clock(), random.Random(1), Config.drawn(random.Random(1))):
        real = {
            name: {kind for kind, module in REAL.items() if getattr(found, kind, None) is module}
            for name, found in sys.modules.items()
            if name.partition(".")[0] in ("actors", "eventlog")
        }
    asked = {name: kinds - NOT_RUN.get(name, set()) for name, kinds in real.items()}
    unknown = {name: kinds for name, kinds in asked.items() if kinds}
    assert not unknown, (
        f"{unknown}: replace them in chaos/simulation/machine.py, or say here that no simulated node asks"
    )
