"""What is done to a cluster: one function a fault, in modules by what they break. `FAULTS` holds them by name."""

from chaos.faults import certificates, disks, links, memory, processes
from chaos.faults.kinds import FAULTS, FaultKind

__all__ = ["FAULTS", "FaultKind", "certificates", "disks", "links", "memory", "processes"]
