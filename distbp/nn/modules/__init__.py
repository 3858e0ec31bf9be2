"""PyTorch modules as models: the same bytes for any number of workers. torch is imported here and nowhere else."""
