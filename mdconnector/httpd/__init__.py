"""Apache: what its configuration wants, which process runs it, and what it serves."""
