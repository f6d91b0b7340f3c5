"""Where block functions run: here, in processes, or as part i of n."""
