"""The napari plugin: segment the layer on screen, and train on corrected labels.

Nothing else imports it, and napari alone starts it (``napari.yaml``).
"""
