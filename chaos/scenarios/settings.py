"""What a run may be told from outside."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`folder` must be absolute and the scenario's own; `rate` is deliveries a second over all nodes."""

    seed: int
    duration_s: float
    folder: Path
    nodes: int = 3
    rate: float = 60.0
    kill_interval_s: float = 4.0
