"""Read what people draw, in any format, as instance labels."""
