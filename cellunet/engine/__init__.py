"""Network engines: float32 images in, class probabilities out."""
