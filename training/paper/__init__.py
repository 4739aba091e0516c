"""Every table and figure of the paper from nothing, by one command; see `docs/exhibits.md`."""
