"""What a node is told: its settings, where each came from, what is wrong with them, and telling it anew."""
