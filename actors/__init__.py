"""Actor kinds: each decides commands into events and evolves tables from them; the runtime runs them over the log."""
