"""The Ray backend: workers and servers as Ray actors, placed, watched and ordered by the driver."""
