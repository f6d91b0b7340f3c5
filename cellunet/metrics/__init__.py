"""Scores of images and models, and constants fitted to them."""
