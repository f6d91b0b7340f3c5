"""What may be wrong with annotations, and the pictures that show it."""
