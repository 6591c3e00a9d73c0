"""Whom a node takes mail from, decided before the message comes: DNS lists, greylisting, rates."""
