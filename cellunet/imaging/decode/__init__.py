"""Class probabilities to instance labels, block by block; see `decoding`."""
