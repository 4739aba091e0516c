"""The paper's tables and figures as queries over result files; see `docs/exhibits.md`."""
