"""The load on a cluster: what clients ask of every node, in an order drawn from a seed, and the history of it."""

from chaos.workload.loop import Mix, Workload
from chaos.workload.target import Target, make_target

__all__ = ["Mix", "Target", "Workload", "make_target"]
