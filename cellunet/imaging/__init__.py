"""Images, labels and numbers: numpy, scipy, scikit-image and tifffile, no torch."""
