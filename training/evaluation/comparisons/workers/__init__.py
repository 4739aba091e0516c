"""Workers: code in the environment of a comparison system, with NumPy and the system's package, not ours.

Each file is one system, started as `python -m workers.NAME` with this folder's parent on `PYTHONPATH`; `serve` speaks
with the evaluation, and the files beside it hold what several systems share. Arrays are z, y, x, and point to the
patient's head, back and left. Python 3.10 is enough.
"""
