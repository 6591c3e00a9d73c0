"""Mail on its way out: what is due in the queues is claimed, sent, and what became of it is recorded.

attempt.py is what the queue's side (manager.py, bounces.py, rewriting.py, generated.py) and the transport's side
(transport.py and what it stands on) know of each other.
"""
