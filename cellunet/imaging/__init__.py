"""Pixels and labels: numpy, scipy; no files, no torch."""
