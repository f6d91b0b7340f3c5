"""Files in and out: images by region, label TIFFs, atomic writing."""
