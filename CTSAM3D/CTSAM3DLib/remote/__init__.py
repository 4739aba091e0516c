"""Segmentation on a server: the wire protocol, the connection, and a server on this computer."""
