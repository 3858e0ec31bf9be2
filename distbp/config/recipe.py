"""The recipe: every value that may change the numbers of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, Strict, ValidationInfo, field_validator, model_validator

from distbp.config.identity import identify, identify_as_0_1_0
from distbp.config.microbatches import RECIPE_MICROBATCHES, choose_microbatch_size, choose_replica_microbatch_size
from distbp.config.rounds import Rounds
from distbp.config.settings import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Settings

Measure = Literal[
    "loss",
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "roc_auc",
    "average_precision",
    "exact_match",
    "rmse",
    "mae",
    "r2",
]
MORE = get_args(Measure)[2:]
"""The measures that need what the network says of each validation example."""
USUAL_PATIENCE = 10
ColumnKind = Literal["number", "category", "date", "ignore"]


_OBJECT = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


def _to_name(value: object) -> object:
    """Return the name of a column that YAML read as a whole number."""
    return str(value) if type(value) is int else value


class Data(Settings):
    """Where the examples come from and how they become numbers."""

    source: str = Field(
        "digits",
        min_length=1,
        description="digits, or a path: IDX folder, .npz, .npy, .csv, .parquet; or a folder, glob or URL of blocks",
    )
    target: str | Annotated[tuple[str, ...], Strict(False)] | None = Field(
        None, description="target column or columns (CSV, Parquet), or the targets' .npy file"
    )
    task: Literal["classification", "regression"] | None = Field(
        None, description="null: classification where targets are text, whole numbers or true/false"
    )
    columns: dict[str, ColumnKind] | None = Field(
        default_factory=dict,
        description="of tables: {NAME: number | category | date | ignore}; the rest is told by what is in them",
    )
    weight: str | None = Field(None, min_length=1, description="of tables: the column with the weight of each example")
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = Field(
        None, description="balanced: each class counts as much as the others; or {LABEL: weight}, 1 for the rest"
    )
    validation: Fraction | str = Field(0.2, description="fraction held out (seeded), or a path to validation data")
    scaling: Literal["none", "min-max", "standard"] = Field(
        "min-max", description="per feature, measured on the training part only"
    )
    window_blocks: PositiveInt = Field(
        4, description="data in blocks: within how many blocks of a lane examples are shuffled"
    )
    target_scaling: Literal["auto", "none", "standard"] = Field(
        "auto", description="of numbers to predict, undone in what is shown; auto: standard unless the loss is your own"
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _numbers_are_columns_too(cls, columns: object) -> object:
        return {_to_name(name): kind for name, kind in columns.items()} if isinstance(columns, dict) else columns

    @field_validator("class_weights", mode="before")
    @classmethod
    def _labels_are_text(cls, weights: object) -> object:
        """Take {0: 1, true: 3}: what YAML reads as a number or a boolean is a label here."""
        if not isinstance(weights, dict):
            return weights
        return {
            str(label).lower() if label in (True, False) and isinstance(label, bool) else str(label): float(weight)
            if type(weight) is int
            else weight
            for label, weight in weights.items()
        }

    @field_validator("target", mode="before")
    @classmethod
    def _numbers_are_names_too(cls, target: object) -> object:
        """Take target=2 for the column "2": what YAML reads as a number is a name here."""
        if isinstance(target, list | tuple):
            return [cls._numbers_are_names_too(name) for name in target]
        return _to_name(target)

    @model_validator(mode="after")
    def _target_names_something(self) -> Self:
        if self.target == () or self.target == "":
            raise ValueError("target is empty; name a column, several columns, or leave it out")
        return self


class Model(Settings):
    """A fully connected network, or a user's own gradient function."""

    hidden: Annotated[tuple[PositiveInt, ...], Strict(False)] = Field(
        (64, 32), description="neurons of each hidden layer; [] is softmax or linear regression"
    )
    activation: Literal["sigmoid", "tanh", "relu", "gelu", "identity"] = Field(
        "relu", description="of the hidden layers"
    )
    loss: (
        Literal["cross_entropy", "squared_error", "binary_cross_entropy"]
        | Annotated[str, Field(pattern=_OBJECT)]
        | None
    ) = Field(
        None,
        description="cross_entropy, squared_error: sum over outputs of (a - y)^2, binary_cross_entropy: each output a "
        "class of its own, or (torch) my_module:loss, one per example; null: by the targets",
    )
    loss_per: Literal["example", "token"] = Field(
        "example", description="what the loss is a mean over: examples, or the places of a sequence that are learned"
    )
    init: Literal["glorot", "he", "normal"] = Field(
        "he", description="glorot (uniform) and he (normal) with zero biases, or normal: N(0, 1) for weights and biases"
    )
    dropout: Fraction = Field(0.0, description="probability that a hidden activation is dropped in training")
    function: str | None = Field(
        None, pattern=_OBJECT, description="module:object that builds a model of your own with its own gradients"
    )
    torch: str | None = Field(None, pattern=_OBJECT, description="module:object that builds a torch.nn.Module")
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments for `function` or `torch`")
    initial: str | None = Field(
        None, min_length=1, description="weights to start from: a .safetensors file with the model's names, or a run"
    )

    @property
    def has_own_loss(self) -> bool:
        """Whether the loss is the user's own function: then outputs may mean anything."""
        return self.loss is not None and ":" in self.loss

    @model_validator(mode="after")
    def _options_need_a_builder(self) -> Self:
        if self.function is not None and self.torch is not None:
            raise ValueError("function and torch each build the model; name one of them")
        if self.options and self.function is None and self.torch is None:
            raise ValueError("options belong to a builder; name it as torch: my_module:build or function: ...")
        return self

    @model_validator(mode="after")
    def _some_need_torch(self) -> Self:
        if self.torch is None and (self.has_own_loss or self.loss_per == "token"):
            what = f"loss={self.loss}" if self.has_own_loss else "loss_per=token"
            raise ValueError(f"{what} is for a module of your own; name its builder as torch: my_module:build")
        return self


class Optimizer(Settings):
    """SGD in PyTorch's convention (v = momentum * v + g, w = w - learning_rate * v), or AdamW."""

    kind: Literal["sgd", "adamw"] = Field("sgd", description="sgd, or adamw (Loshchilov & Hutter 2019)")
    learning_rate: PositiveFloat = Field(0.1, description="step size at the reference batch, before any schedule")
    momentum: Fraction = Field(0.9, description="sgd: 0 is plain SGD")
    nesterov: bool = Field(False, description="sgd: step along g + momentum * v")
    betas: Annotated[tuple[Fraction, Fraction], Strict(False)] = Field(
        (0.9, 0.999), description="adamw: what the means of the gradient and of its square keep of themselves"
    )
    eps: PositiveFloat = Field(1e-8, description="adamw: added to the root of the second mean")
    weight_decay: NonNegativeFloat = Field(
        0.0,
        description="sgd adds weight_decay * w to the gradient, adamw shrinks w apart from it; not for biases; "
        "of tables 0.003 with sgd where this is not set",
    )
    decay_groups: dict[str, NonNegativeFloat] = Field(
        default_factory=dict,
        description="weight decay by name pattern, such as {'head.*': 0.1, '*.bias': 0}; the first that fits counts",
    )
    clip_norm: PositiveFloat | Literal["auto"] | None = Field(
        "auto", description="largest allowed norm of the averaged gradient; auto: null, of tables and numbers 1"
    )

    @property
    def largest_norm(self) -> float | None:
        """The largest allowed norm of the averaged gradient, None for any; of a recipe that is settled."""
        return None if self.clip_norm == "auto" else self.clip_norm

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.kind != "sgd"):
            raise ValueError("nesterov needs sgd with a momentum above 0; set momentum, for example 0.9")
        return self


class Schedule(Settings):
    """How the learning rate changes over the steps."""

    kind: Literal["auto", "constant", "step", "cosine"] = Field(
        "auto", description="shape after the warmup; auto: constant, of tables and numbers cosine"
    )
    warmup_steps: NonNegativeInt = Field(0, description="linear rise over this many steps")
    decay_epochs: PositiveInt = Field(10, description="step: epochs between two decays")
    decay_factor: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="step: factor of one decay")
    final_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="cosine: what is left of the learning rate at the end"
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="scale the learning rate with global_batch_size / reference_batch_size"
    )
    reference_batch_size: PositiveInt | None = Field(None, description="the batch that learning_rate was tuned for")

    @model_validator(mode="after")
    def _scaling_needs_a_reference(self) -> Self:
        if self.lr_scaling != "none" and self.reference_batch_size is None:
            raise ValueError(
                f"lr_scaling={self.lr_scaling} needs reference_batch_size, the batch that learning_rate was tuned for"
            )
        return self


def switch_early_stopping(is_on: bool) -> dict[str, Any]:
    """Return what early_stopping: true or false sets."""
    return {"patience": USUAL_PATIENCE if is_on else None}


SWITCHES = {"early_stopping": switch_early_stopping}
"""The sections that may also be true or false, and what that sets in them."""


class EarlyStopping(Settings):
    """Stop when what is watched no longer gets better, and end with the best parameters. true: a patience of 10."""

    patience: PositiveInt | None = Field(None, description="epochs without improvement before stopping; null: never")
    min_delta: NonNegativeFloat = Field(0.0, description="smallest improvement of what is watched that counts")
    monitor: Measure = Field(
        "loss",
        description="what is watched on the validation data: loss, accuracy; of data in memory also " + ", ".join(MORE),
    )

    @model_validator(mode="before")
    @classmethod
    def _is_a_switch_too(cls, values: object) -> object:
        """Take early_stopping: true and false."""
        return switch_early_stopping(values) if isinstance(values, bool) else values


def default_microbatch_size(batch_size: int, rounds: Rounds) -> int:
    """Return the microbatch size of a recipe that leaves it open."""
    if rounds.steps is not None:
        return choose_replica_microbatch_size(batch_size, rounds.replicas)
    return choose_microbatch_size(batch_size, RECIPE_MICROBATCHES)


class Recipe(Settings):
    """Every value that may change the numbers of a run."""

    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()
    rounds: Rounds = Rounds()
    global_batch_size: PositiveInt = Field(
        64, description="examples per step, over all workers; of large tables more where this is not set: 500 steps"
    )
    microbatch_size: PositiveInt = Field(
        "auto",
        validate_default=True,
        description="examples per unit of gradient arithmetic; auto: an eighth of the batch, or a replica's part of it",
    )
    epochs: PositiveInt = Field(
        20, description="passes over the training data; of small tables more where this is not set: 300 steps"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="of every random choice")
    dtype: Literal["float32", "float64"] = Field("float32", description="of parameters, gradients and activations")

    @model_validator(mode="before")
    @classmethod
    def _auto_is_left_open(cls, values: object) -> object:
        """Take microbatch_size: auto for one that is not set, so that it follows a batch that the data choose."""
        if isinstance(values, dict) and values.get("microbatch_size") == "auto":
            return {name: value for name, value in values.items() if name != "microbatch_size"}
        return values

    @field_validator("microbatch_size", mode="before")
    @classmethod
    def _resolve_auto(cls, value: object, info: ValidationInfo) -> object:
        if value != "auto":
            return value
        batch_size = info.data.get("global_batch_size", 1)  # one that is refused is told of alone
        return default_microbatch_size(batch_size, info.data.get("rounds", Rounds()))

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.microbatch_size > self.global_batch_size:
            raise ValueError(
                f"microbatch_size={self.microbatch_size} is larger than global_batch_size={self.global_batch_size}; "
                f"use at most {self.global_batch_size}"
            )
        if self.early_stopping.patience is not None and self.data.validation == 0.0:
            raise ValueError("early_stopping needs validation data; set data.validation, for example 0.2")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of what is set away from the defaults, wherever the data lie (`distbp.config.identity`).

        Two runs may share a checkpoint only if theirs are equal, and their data's fingerprints.
        """
        return identify(self)

    @property
    def digest_of_0_1_0(self) -> str:
        """What version 0.1.0 wrote into the checkpoints of this recipe, and into the names of its runs."""
        return identify_as_0_1_0(self)
