"""The studies: how batch size, workers and order change training, measured with the product's own training."""
