"""Certificates and TLS: of the cell, of the mail listeners, ordered by ACME."""
