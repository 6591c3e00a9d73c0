"""The replicated event log: records, storage, consensus, the fold and what is read from them.

Everything that mailraft knows is a fold over this log. Nothing in this package knows of mail: what an event means
is given to it as one function, `evolve` (see `eventlog.fold`).
"""
