"""Which batch size, workers and servers to use, from a short probe."""
