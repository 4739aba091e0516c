"""Methods clicked by one protocol, scored, and compared."""
