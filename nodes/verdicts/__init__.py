"""Who sent a message, as far as the DNS can tell: SPF, DKIM, ARC, DMARC, and the Authentication-Results that say so.

Each method is a module of its own that judges what it is given and asks the DNS through `dns.Lookup`; none knows of
SMTP. `judge.py` puts them together, `check.py` stands before acceptance and applies policy. See docs/ADR/0017.
"""
