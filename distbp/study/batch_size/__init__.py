"""How mini-batches cut computation time: trials, findings, page."""
