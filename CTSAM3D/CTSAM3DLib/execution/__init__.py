"""The network on a device: the engine, and how far its numbers may differ from the plain network's."""
