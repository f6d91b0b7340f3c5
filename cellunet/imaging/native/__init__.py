"""Native decoders, and the process of their own that they run in."""
