"""One server process of a mailraft cell: configuration, lifecycle, security, and its front ends."""
