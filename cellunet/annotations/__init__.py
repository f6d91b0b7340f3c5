"""What people draw, of any format, to instance labels."""
