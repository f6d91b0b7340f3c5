"""TIFF, OME-TIFF, ImageJ TIFF and BigTIFF, read by region; see `reader`."""
