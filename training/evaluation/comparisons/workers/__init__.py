"""What runs in the environment of a comparison system: NumPy and that system's own package, nothing of ours.

Each file is one system, started as `python -m workers.NAME` with this folder's parent on `PYTHONPATH`; `serve` speaks
with the evaluation, and the files beside it hold what several systems share. Arrays are z, y, x, and point to the
patient's head, back and left. Python 3.10 is enough.
"""
