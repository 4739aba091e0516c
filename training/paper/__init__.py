"""Reproduce every table and figure of the paper from scratch by one command; see `docs/exhibits.md`."""
