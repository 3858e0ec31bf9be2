"""distbp as a service: training runs as jobs of a Ray cluster; imports ray, as only the Ray backend does beside it."""
