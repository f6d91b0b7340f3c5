"""What people draw: pixels, shapes and scribbles, one module per format."""
