"""What nodes do for tenants: warnings, ends, archives, and what of them is erased."""
