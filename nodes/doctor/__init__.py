"""`mailraft doctor DOMAIN`: what the rest of the internet sees of a domain's mail, and what to put into DNS.

Asked through this node's own resolver and its own network, as the senders that matter would ask.
"""

from nodes.doctor.examine import examine
from nodes.doctor.finding import Finding, Status

__all__ = ["Finding", "Status", "examine"]
