"""Facts of the machine and of its processes that more than one room asks for."""
