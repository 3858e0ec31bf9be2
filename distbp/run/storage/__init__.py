"""A run's folder on any fsspec storage: writing, waiting for what is away, and errors in distbp's words."""
