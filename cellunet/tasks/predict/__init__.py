"""Predict: images in, one label image each out."""
