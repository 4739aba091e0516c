"""CT-SAM3D in a browser.

    browser -> front (one door, one port) -> a workspace's process -> the network's process, or a server

A *workspace* is one CT with its segments on one page. Each has a process of its own, in which trame-slicer keeps real
MRML nodes and draws the views, so that two tabs never touch each other and a crash takes one page along, not all. The
network is shared by all workspaces.
"""
