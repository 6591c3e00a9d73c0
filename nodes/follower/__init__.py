"""Following another cell's log: the feed that a cell gives, and the pull that a follower's leader does.

A follower is given, of each record, the events of what it was granted, and of all else commitments alone, so that it
can recompute the chain (docs/ADR/0013-followers.md).
"""
