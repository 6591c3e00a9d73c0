"""Deterministic simulation: a whole cell in one thread over fake time, network and disk; one seed is one run.

What runs is the production code: consensus, journal, writer, proposals, fold, event log, actors. What is replaced is
the edge of the machine: the event loop's clock, sockets, the power and the disk, random numbers (docs/ADR/0006).
"""
