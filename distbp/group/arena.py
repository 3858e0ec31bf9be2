"""Gradient buffers of one worker in shared memory, known to other processes of its node by their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DistbpError
from distbp.group.links import SharedMemory


class Arena:
    """Buffers (num_parameters,) that a worker allocates one by one and servers of its node read where they lie."""

    CAPACITY = 256  # pages take space only once written, so room for many costs nothing

    def __init__(self, size: int, dtype: np.dtype, memory: SharedMemory | None = None):
        """size: values of a buffer. memory: another worker's, to look into; None makes its own."""
        self.memory = memory or SharedMemory(size * self.CAPACITY, dtype)
        self._buffers = self.memory.array.reshape(self.CAPACITY, size)
        self._num_allocated = 0

    def allocate(self) -> NDArray:
        """Return the next buffer, (num_parameters,). Raises DistbpError when all are in use."""
        if self._num_allocated == self.CAPACITY:
            raise DistbpError(
                f"a worker needs more than {self.CAPACITY} gradient buffers; use fewer threads_per_worker"
            )
        self._num_allocated += 1
        return self.buffer(self._num_allocated - 1)

    def buffer(self, place: int) -> NDArray:
        """Return buffer number `place`."""
        buffer: NDArray = self._buffers[place]
        return buffer

    def place(self, buffer: NDArray) -> int:
        """Return the number of a buffer."""
        offset = buffer.ctypes.data - self._buffers.ctypes.data
        return offset // max(1, self._buffers.strides[0])
