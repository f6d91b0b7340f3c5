"""The page that a batch is looked at with: pure functions, no network, no torch."""
