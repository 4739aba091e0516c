"""The network's hand-written fast execution on a CPU. Without this package everything works, only slower."""
