"""Score images and models, and fit constants to the scores."""
