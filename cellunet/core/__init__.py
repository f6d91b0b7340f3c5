"""The network and its training: the only floor that imports torch."""
