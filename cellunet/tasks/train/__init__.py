"""Train: annotated folders in, a model out."""
