"""MIME as byte ranges over a message's own bytes.

Used by IMAP and, later, by whatever else shows messages. Everything here is pure and total: any bytes are a message,
work and memory are bounded, and what is handed out is an offset into the original, never a re-encoding of it.
"""
