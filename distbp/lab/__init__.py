"""What studies and advice share: trials, their store and processes, timing, and the fits. Pages are elsewhere."""
