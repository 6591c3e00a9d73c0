"""The load on a cluster: what clients ask of every node, in an order drawn from a seed, and the history of it."""

from chaos.workload.loop import Mix, Workload
from chaos.workload.site import Site, make_site

__all__ = ["Mix", "Site", "Workload", "make_site"]
