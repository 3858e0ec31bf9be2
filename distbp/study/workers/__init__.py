"""How steps get faster with more workers: measurements, a cost model, predictions, page."""
