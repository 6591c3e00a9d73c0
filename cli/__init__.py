"""The `mailraft` command, one file per command group; each is imported only when it is used."""
