"""A server's slice of the state where other processes see it, so that it outlives the server, or even its node.

The parameters lie in the node's shared memory already. Here the optimizer's moments do so too, in two sets that are
written in turn, with the parameters that the newest commit has replaced, block by block: a commit that was torn by the
end of its process is undone, and one that other servers could not follow as well. A member of another node can keep the
same, of what it is sent: then a lost node redoes nothing either.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from distbp.group.links import SharedMemory
from distbp.protocol.messages import Snapshot, StepReport, TrainState
from distbp.protocol.server import NUM_REMEMBERED_REPORTS

_ALIGNMENT = 64
_STEP, _BEGUN, _NUM_KEPT, _FIRST, _NUM_REPORTS, _HEADER_SIZE = 0, 1, 2, 3, 4, 8
_TYPES = {"int": "i8", "float": "f8", "float | None": "f8"}  # NaN stands for None, which no committed report has
_NUMBERS = {field.name: _TYPES[str(field.type)] for field in fields(StepReport) if str(field.type) in _TYPES}
_REPORT = np.dtype([*_NUMBERS.items(), ("checksum", "u8")])
"""A report of a single step, all its numbers; those of rounds are not kept here."""
_ROW = struct.Struct("=" + "".join({"i8": "q", "f8": "d"}[kind] for kind in _NUMBERS.values()) + "Q")
"""The same as bytes: to write them so takes a tenth of the time, which counts in every step of a small network."""
_take_numbers = attrgetter(*_NUMBERS)


@dataclass(frozen=True)
class Offer:
    """The steps of which a slice's state can be had: from `oldest` to `newest`, which are one apart at most."""

    oldest: int
    newest: int


class Spare:
    """The state of one slice in shared memory: its server writes, other processes read when the server is gone.

    header: how many steps are done; the same, or one more while that step is committed; parameters whose former
    values are kept; the step that the server began with; how many reports there were.
    """

    def __init__(self, parameters: NDArray, num_moments: int, memory: SharedMemory | None = None):
        """parameters: this slice, (n,), in the node's memory. memory: what another process made; None makes it."""
        size, dtype = len(parameters), parameters.dtype
        num_bytes = _HEADER_SIZE * 8 + NUM_REMEMBERED_REPORTS * _REPORT.itemsize + _ALIGNMENT
        num_bytes += (1 + 2 * num_moments) * (size * dtype.itemsize + _ALIGNMENT)
        self.memory = memory or SharedMemory(num_bytes, np.uint8)
        cutter = _Cutter(self.memory.array)
        self._header = cutter.cut(_HEADER_SIZE, np.dtype("i8"))
        self._words = self._header.data  # the same memory, quicker to write single numbers to
        self._reports = cutter.cut(NUM_REMEMBERED_REPORTS, _REPORT)
        self._rows = self._reports.view(np.uint8).data
        self._parameters = parameters
        self._moments = tuple(tuple(cutter.cut(size, dtype) for _ in range(num_moments)) for _ in range(2))
        self._kept = cutter.cut(size, dtype)

    def __len__(self) -> int:
        return len(self._parameters)

    def moments(self, step: int) -> tuple[NDArray, ...]:
        """Return the arrays for the moments after `step` steps, (n,) each."""
        return self._moments[step % 2]

    # The server

    def open(self, state: TrainState) -> None:
        """Take over the server's state; its parameters are written already."""
        for both in self._moments:  # the other set too: without momentum nobody writes it
            for own, moment in zip(both, state.moments, strict=True):
                own[...] = moment
        self._header[_STEP] = self._header[_BEGUN] = self._header[_FIRST] = state.step

    def begin(self) -> None:
        """The next step is going to be committed."""
        self._words[_NUM_KEPT] = 0
        self._words[_BEGUN] += 1

    def keep(self, block: slice) -> None:
        """Keep the next block of the parameters, which is about to be changed."""
        self._kept[block] = self._parameters[block]
        self._words[_NUM_KEPT] = block.stop

    def finish(self, report: StepReport) -> None:
        """The step is committed."""
        numbers = (math.nan if value is None else value for value in _take_numbers(report))
        place = self._words[_NUM_REPORTS] % NUM_REMEMBERED_REPORTS
        _ROW.pack_into(self._rows, place * _ROW.size, *numbers, int(report.checksum, 16))
        self._words[_NUM_REPORTS] += 1
        self._words[_STEP] += 1

    # Everybody else

    @property
    def offer(self) -> Offer:
        """Which steps' state can be had."""
        step, begun, num_kept, first = (int(value) for value in self._header[:_NUM_REPORTS])
        can_go_back = begun == step > first and num_kept >= len(self._parameters)
        return Offer(step - 1 if can_go_back else step, step)

    def read(self, step: int) -> Snapshot | None:
        """Return a copy of the state after `step` steps; None if it is not offered, or was changed meanwhile."""
        before = self._header.tobytes()
        offer = self.offer
        if not offer.oldest <= step <= offer.newest:
            return None
        is_clean = self._header[_BEGUN] == offer.newest
        num_undone = 0 if step == offer.newest and is_clean else int(self._header[_NUM_KEPT])
        parameters = self._parameters.copy()
        parameters[:num_undone] = self._kept[:num_undone]
        moments = tuple(moment.copy() for moment in self.moments(step))
        found = Snapshot(TrainState(step, parameters, moments), self._read_reports(step))
        return found if self._header.tobytes() == before else None

    def close(self) -> None:
        """Give up the memory's descriptor."""
        self.memory.close()

    def _read_reports(self, step: int) -> tuple[StepReport, ...]:
        """Return the newest reports up to `step`, oldest first."""
        stop = int(self._header[_NUM_REPORTS])
        rows = [self._reports[i % NUM_REMEMBERED_REPORTS] for i in range(max(0, stop - len(self._reports)), stop)]
        return tuple(_to_report(row) for row in rows if row["step"] <= step)


def choose_step(offers: Mapping[int, Offer], num_servers: int) -> int | None:
    """Return the newest step of which every slice's state can be had; None if there is none."""
    if len(offers) < num_servers:
        return None
    step = min(offer.newest for offer in offers.values())
    return step if all(offer.oldest <= step for offer in offers.values()) else None


def align_reports(found: Sequence[Snapshot]) -> list[Snapshot]:
    """Return snapshots of one step with as many reports each: the newest that all have."""
    count = min(len(snapshot.reports) for snapshot in found)
    return [Snapshot(snapshot.state, snapshot.reports[len(snapshot.reports) - count :]) for snapshot in found]


def _to_report(row: np.void) -> StepReport:
    numbers = {name: row[name].item() for name in _NUMBERS}
    if math.isnan(numbers["weight"]):
        numbers["weight"] = None
    return StepReport(checksum=f"{int(row['checksum']):016x}", committed=True, **numbers)


class _Cutter:
    """Cuts arrays out of memory, one after the other, each on a cache line of its own."""

    def __init__(self, memory: NDArray):
        self._memory = memory
        self._offset = 0

    def cut(self, size: int, dtype: np.dtype) -> NDArray:
        start = self._offset
        stop = start + size * dtype.itemsize
        self._offset = -(-stop // _ALIGNMENT) * _ALIGNMENT
        return self._memory[start:stop].view(dtype)
