"""Pixels and labels: numpy, scipy, scikit-image; no files, no torch."""
