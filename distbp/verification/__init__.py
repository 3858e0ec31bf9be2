"""Whether two runs are the same, byte by byte."""
