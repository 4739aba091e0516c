"""A host for tests: `qt`, `ctk` and the desktop names of `slicer` over PySide6 and slicer-core.

Desktop Slicer cannot be run in continuous integration. The MRML half of it is real here: scene, nodes and logics come
from slicer-core. The half that needs Slicer's window is small, hand-made, and holds no name that Slicer does not have
(`slicer_api.json`, made from Slicer's headers by `extract_api.py`): code that works in Slicer works here, and a name
that Slicer lacks fails here.
"""
