"""Front ends in processes of their own (node.workers = N): they read LMDB snapshots and write through the node's log.

In the node: `crew` spawns the workers and replaces those that die, `desk` serves one of them, `hub` is what they have
in common. In a worker: `worker` is its life, `remote_log` its log. Between them: `channel` and `messages`, over a pair
of sockets that nobody else can reach. See docs/ADR/0040.
"""
