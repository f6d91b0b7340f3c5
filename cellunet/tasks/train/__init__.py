"""Train a model from annotated folders."""
