"""CT-SAM3D among MRML nodes: volumes, clicks, segments, and predictions that are written into them.

The only part of the library that imports `slicer` and knows RAS; it runs in Slicer with and without its window, and on
slicer-core. No Qt. Everything happens on the caller's thread, as MRML asks.

Three coordinate systems meet here, all in mm. *World* RAS is what views and control points show. *Local* RAS is the
segmentation node's own, before its parent transform; its labelmaps and the clicks in its tags lie there, so that a
transform moves them together. The library's LPS is local RAS with two signs turned: a CT is brought into the local
frame before the library sees it.
"""
