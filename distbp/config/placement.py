"""The placement: where and how a run happens; none of its values changes the numbers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from distbp.config.settings import PositiveFloat, PositiveInt, Settings
from distbp.config.sizes import Size

Range = Annotated[tuple[PositiveInt, PositiveInt], Strict(False)]


_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")


class Placement(Settings):
    """Where and how a run happens; none of these values changes the numbers."""

    backend: Literal["local", "ray"] = Field("local", description="threads in this process, or Ray actors")
    workers: PositiveInt | Range = Field(
        2, description="that each compute gradients on their shard; [2, 4] (or 2:4) takes from 2 to 4, as there are"
    )
    servers: PositiveInt | Literal["auto"] = Field(
        "auto", description="that each keep a slice of the parameters, beside the first workers; at most `workers`"
    )
    server_outlives: Literal["process", "node"] = Field(
        "process",
        description="what may be lost with a server and no step is done again: its process, where its node has another "
        "worker; or its whole node: then each server sends the optimizer's moments to another node in every step",
    )
    threads_per_worker: Annotated[int, Field(gt=0, le=1024)] = Field(1, description="that share one worker's shard")
    address: str | None = Field(
        None, description="Ray cluster to join; null: RAY_ADDRESS if set, else a private one on this machine"
    )
    storage: str = Field("runs", min_length=1, description="where runs are kept: a path or any fsspec URL")
    checkpoint_every_steps: PositiveInt = Field(
        100, description="steps done again after a crash, at most; checkpoints begin after 3/4 of them"
    )
    keep_checkpoints: PositiveInt = Field(3, description="newest checkpoints to keep, besides the best")
    max_failures: Annotated[int, Field(ge=-1)] = Field(100, description="recoveries before giving up; -1: no limit")
    step_timeout_s: PositiveFloat = Field(
        300.0, description="seconds to wait for one step before workers count as lost; a round may take that a step"
    )
    memory_for_data: Size = Field(
        "1GB", description="data in blocks: decoded blocks that each worker holds, such as 512MB"
    )
    cache: Size = Field(
        "4GB", description="data in blocks: copies of remote data on each node's disk, in ~/.cache/distbp; 0B: none"
    )
    portable: bool = Field(
        False,
        description="use the kernels that all x86 CPUs with AVX2 have, in every process: unlike nodes then compute the "
        "same bits, newer ones more slowly; a run keeps the kernels that it began with",
    )
    on_numerics_mismatch: Literal["refuse", "warn"] = Field(
        "refuse", description="when resuming on a machine whose floating-point results differ"
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _read_range(cls, value: Any) -> Any:
        found = _RANGE.fullmatch(value) if isinstance(value, str) else None
        return [int(part) for part in found.groups()] if found else value

    @model_validator(mode="after")
    def _workers_are_a_range(self) -> Self:
        if self.min_workers > self.max_workers:
            low, high = self.min_workers, self.max_workers
            raise ValueError(f"workers=[{low}, {high}] begins above its end; write [{high}, {low}]")
        return self

    @model_validator(mode="after")
    def _servers_are_workers_too(self) -> Self:
        if self.servers != "auto" and self.servers > self.max_workers:
            raise ValueError(
                f"servers={self.servers} is more than workers={self.max_workers}; use at most {self.max_workers}"
            )
        return self

    @property
    def min_workers(self) -> int:
        """The fewest workers to start with."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def min_workers_left(self) -> int:
        """The fewest workers to go on with after a failure: any number, unless a range says otherwise."""
        return 1 if isinstance(self.workers, int) else self.workers[0]

    @property
    def max_workers(self) -> int:
        """The most workers to use."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]
