"""What is done to a cluster: one function a fault, in modules by what they break. `FAULTS` holds them by name."""

from chaos.faults import certificates, clients, clocks, disks, links, memory, names, processes
from chaos.faults.kinds import FAULTS, FaultKind

__all__ = [
    "FAULTS",
    "FaultKind",
    "certificates",
    "clients",
    "clocks",
    "disks",
    "links",
    "memory",
    "names",
    "processes",
]
