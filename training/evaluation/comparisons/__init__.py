"""Comparison systems of other authors, each in its own Python environment.

The evaluation speaks with a worker (`workers/`) in another process, so that a system needs nothing of ours and we
nothing of its. `systems.yaml` lists them, `docs/comparisons.md` says how each is installed and what was run.
"""
