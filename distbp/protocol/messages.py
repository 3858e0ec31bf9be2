"""What driver, workers and parameter server say to each other: small frozen values, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy.typing import NDArray

from distbp.config import Optimizer, Outer
from distbp.nn.build import ModelSpec
from distbp.protocol.examples import Examples
from distbp.protocol.supply import Supply


@dataclass(frozen=True)
class RoundsTask:
    """What a worker needs to train replicas: the servers' task as of their steps, and how many steps a round has."""

    server: ServerTask
    steps: int


@dataclass(frozen=True)
class WorkerTask:
    """All that a worker needs besides the parameters. rounds: None where every step is committed."""

    model: ModelSpec
    train: Examples | Supply
    validation: Examples | Supply | None
    seed: int
    microbatch_size: int
    num_threads: int
    rounds: RoundsTask | None = None

    @property
    def steps_a_commit(self) -> int:
        """After how many steps there is a commit."""
        return 1 if self.rounds is None else self.rounds.steps


@dataclass(frozen=True)
class ServerTask:
    """All that a parameter server needs besides its state.

    decays: (start, stop, weight decay) of the ranges of the flat vector on which weight decay acts.
    buffers: (start, stop) of those to which the mean change is added in place of a step.
    outer: of rounds, how the servers follow the replicas; None where workers send gradients.
    """

    optimizer: Optimizer
    decays: tuple[tuple[int, int, float], ...]
    buffers: tuple[tuple[int, int], ...] = ()
    outer: Outer | None = None


@dataclass(frozen=True)
class TrainState:
    """Everything that the next step depends on. parameters and the optimizer's moments: (num_parameters,)."""

    step: int
    parameters: NDArray
    moments: tuple[NDArray, ...]


@dataclass(frozen=True)
class StepOrder:
    """One step: the examples at positions [start, stop) of the epoch's order, and the learning rate.

    step counts from 0; committing it takes the state from `step` to `end` steps done. num_microbatches: into how many
    the batch is cut. first_microbatch: the number of the first where these are a replica's part of a batch.
    steps: a round's steps, none for a single one. Of a round, num_microbatches is the number of its replicas: the
    leaves of the tree that is added up.
    """

    step: int
    epoch: int
    start: int
    stop: int
    learning_rate: float
    num_microbatches: int
    first_microbatch: int = 0
    steps: tuple[StepOrder, ...] = ()

    @property
    def end(self) -> int:
        """Steps done when this is committed."""
        return self.step + max(1, len(self.steps))


@dataclass(frozen=True)
class Shard:
    """The microbatches [start, stop) of a batch of `num_microbatches` that one worker holds in one step."""

    start: int
    stop: int
    num_microbatches: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class InnerStep:
    """One step of a round, as some replicas took it: sums over their examples, seconds, and a checksum of each one.

    data_s: seconds of waiting for data, which are no part of compute_s.
    """

    loss: float
    num_examples: int
    compute_s: float
    checksums: tuple[str, ...]
    data_s: float = 0.0

    def joined(self, right: InnerStep) -> InnerStep:
        """Return the same step of these and of further replicas."""
        return InnerStep(
            loss=self.loss + right.loss,
            num_examples=self.num_examples + right.num_examples,
            compute_s=self.compute_s + right.compute_s,
            checksums=self.checksums + right.checksums,
            data_s=self.data_s + right.data_s,
        )


@dataclass(frozen=True)
class Partial:
    """The un-averaged sums over one whole subtree of microbatches, [start, stop).

    gradient: (num_parameters,). In one process it is a view that the worker's next call overwrites.
    steps: of a round; then the leaves are replicas, and gradient is the mean of the parameters that they ended with.
    weight: the sum of the examples' weights, where they have some.
    """

    start: int
    stop: int
    gradient: NDArray
    loss: float
    num_examples: int
    steps: tuple[InnerStep, ...] = ()
    weight: float | None = None

    def joined(self, right: Partial) -> Partial:
        """Return the partial over both subtrees, given that this one's gradient holds the sum by now."""
        loss, num_examples = self.loss + right.loss, self.num_examples + right.num_examples
        steps = tuple(map(InnerStep.joined, self.steps, right.steps))
        weight = None if self.weight is None or right.weight is None else self.weight + right.weight
        return Partial(self.start, right.stop, self.gradient, loss, num_examples, steps, weight)


@dataclass(frozen=True)
class ShardResult:
    """What one worker sends to the server in one step, and the seconds it computed, and waited for data before."""

    partials: tuple[Partial, ...]
    compute_s: float
    data_s: float = 0.0


@dataclass(frozen=True)
class StepReport:
    """What the driver learns of one step; step is the number of steps done after it.

    loss: mean over the batch, before the update. checksum: of the parameters after it, 16 hex digits.
    committed: False when the loss was not finite, and the parameters stayed as they were.
    Seconds: compute_s of the slowest worker; commit_s of the server; wait_s the rest since the last commit;
    mean_compute_s: compute_s as a mean over the workers that took part; data_s of the worker that waited longest for
    data, which is no part of compute_s. weight: the sum of the weights, where there are some.
    Of a round: the report of its last step, and in `steps` those before it. replicas: a checksum of each replica's
    parameters after the step; the checksum is theirs together, but of the last step that of what was committed.
    """

    step: int
    epoch: int
    loss: float
    num_examples: int
    checksum: str
    committed: bool
    compute_s: float
    wait_s: float
    commit_s: float
    mean_compute_s: float = 0.0
    data_s: float = 0.0
    replicas: tuple[str, ...] = ()
    steps: tuple[StepReport, ...] = ()
    weight: float | None = None

    @property
    def divisor(self) -> float:
        """What the loss is a mean over: the number of examples, or the sum of their weights."""
        return self.num_examples if self.weight is None else self.weight

    def unrolled(self) -> tuple[StepReport, ...]:
        """Return one report for each step, in order."""
        return (*self.steps, replace(self, steps=())) if self.steps else (self,)


@dataclass(frozen=True)
class Effort:
    """What one worker computed over some steps: how many microbatches, in how many seconds."""

    num_microbatches: int
    compute_s: float


@dataclass(frozen=True)
class Snapshot:
    """A copy of the server's state, with the reports of its newest steps in case they never arrived."""

    state: TrainState
    reports: tuple[StepReport, ...]


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy over a set of examples; accuracy is None for regression."""

    loss: float
    accuracy: float | None
    num_examples: int


def slice_state(state: TrainState, start: int, stop: int) -> TrainState:
    """Return the slice [start, stop) of the flat vectors, as views."""
    moments = tuple(moment[start:stop] for moment in state.moments)
    return TrainState(state.step, state.parameters[start:stop], moments)


def slice_result(result: ShardResult, start: int, stop: int) -> ShardResult:
    """Return the partials' slice [start, stop) of the flat vector, as views."""
    return ShardResult(
        tuple(replace(p, gradient=p.gradient[start:stop]) for p in result.partials),
        result.compute_s,
        result.data_s,
    )
