"""Reports on mail authentication: ours to others, collected as events and sent daily, and those of others to us.

`collector.py` counts what the checks and the transport saw, `sender.py` makes and sends reports of days that are over,
`incoming.py` understands what arrives at a report address. What is kept is in actors/reports.py.
"""
