"""Scores of images and models: means, intervals, curves, fitted constants."""
