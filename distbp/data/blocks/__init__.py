"""Data in blocks, which no process holds whole: the order of an epoch, the first look, and the reader."""
