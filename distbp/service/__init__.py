"""Training runs as jobs of a Ray cluster, their metrics and files. Only this room and the Ray backend import ray."""
