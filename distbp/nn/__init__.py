"""Pure NumPy: layout, network, backprop, SGD, schedules and the reduction tree. No files, clocks, ray or logging."""
