"""Recipe and Placement: all configuration, split by consequence.

`Recipe` holds every value that may change the numbers, `Placement` where and how a run happens.
The promise as a type: the same Recipe gives the same bytes for any Placement.

Reading YAML, `--set` overrides and turning pydantic's findings into one sentence live here too.
Nothing here reads data or starts anything.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

from distbp.config.identity import identify, identify_as_0_1_0
from distbp.errors import ConfigError
from distbp.installation import describe_newer

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Range = Annotated[tuple[PositiveInt, PositiveInt], Strict(False)]

DEFAULT_MICROBATCHES = 8
MAX_SHOWN = 200  # characters of a text that may be of any length
MAX_VALUES = 100_000  # with every alias written out: nine lines of YAML can stand for a thousand million
WRITTEN_BY = "written_by"
"""The key under which a run's config.yaml says which distbp wrote it."""
_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")


class Settings(BaseModel):
    """Base of all configuration: frozen, strict about types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(Settings):
    """Where the examples come from and how they become numbers."""

    source: str = Field("digits", min_length=1, description="digits, or a path: IDX folder, .npz, .npy, .csv, .parquet")
    target: str | Annotated[tuple[str, ...], Strict(False)] | None = Field(
        None, description="target column or columns (CSV, Parquet), or the targets' .npy file"
    )
    task: Literal["classification", "regression"] | None = Field(
        None, description="null: classification where targets are text, whole numbers or true/false"
    )
    validation: Fraction | str = Field(0.2, description="fraction held out (seeded), or a path to validation data")
    scaling: Literal["none", "min-max", "standard"] = Field(
        "min-max", description="per feature, measured on the training part only"
    )

    @field_validator("target", mode="before")
    @classmethod
    def _numbers_are_names_too(cls, target: object) -> object:
        """Take target=2 for the column "2": what YAML reads as a number is a name here."""
        if isinstance(target, list | tuple):
            return [cls._numbers_are_names_too(name) for name in target]
        return str(target) if type(target) is int else target

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
    loss: Literal["cross_entropy", "squared_error"] = Field(
        "cross_entropy", description="softmax cross-entropy, or sum over outputs of (a - y)^2"
    )
    init: Literal["glorot", "he", "normal"] = Field(
        "he", description="glorot (uniform) and he (normal) with zero biases, or normal: N(0, 1) for weights and biases"
    )
    dropout: Fraction = Field(0.0, description="probability that a hidden activation is dropped in training")
    function: str | None = Field(
        None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:object that builds a model of your own"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments for `function`")

    @model_validator(mode="after")
    def _options_need_a_function(self) -> Self:
        if self.options and self.function is None:
            raise ValueError("options belong to a function; name it as function: my_module:build")
        return self


class Optimizer(Settings):
    """Stochastic gradient descent in PyTorch's convention: v = momentum * v + g, w = w - learning_rate * v."""

    learning_rate: PositiveFloat = Field(0.1, description="step size at the reference batch, before any schedule")
    momentum: Fraction = Field(0.9, description="0 is plain SGD")
    nesterov: bool = Field(False, description="step along g + momentum * v")
    weight_decay: NonNegativeFloat = Field(0.0, description="added to the gradient as weight_decay * w, not for biases")
    clip_norm: PositiveFloat | None = Field(None, description="largest allowed norm of the averaged gradient")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0; set momentum, for example 0.9")
        return self


class Schedule(Settings):
    """How the learning rate changes over the steps."""

    kind: Literal["constant", "step", "cosine"] = Field("constant", description="shape after the warmup")
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


class EarlyStopping(Settings):
    """Stop when the validation loss no longer falls, and end with the best parameters."""

    patience: PositiveInt | None = Field(None, description="epochs without improvement before stopping; null: never")
    min_delta: NonNegativeFloat = Field(0.0, description="smallest fall of the validation loss that counts")


class Recipe(Settings):
    """Every value that may change the numbers of a run."""

    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()
    global_batch_size: PositiveInt = Field(64, description="examples per step, over all workers")
    microbatch_size: PositiveInt = Field(
        8, description="examples per unit of gradient arithmetic; auto: an eighth of the batch"
    )
    epochs: PositiveInt = Field(20, description="passes over the training data")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="of every random choice")
    dtype: Literal["float32", "float64"] = Field("float32", description="of parameters, gradients and activations")

    @model_validator(mode="before")
    @classmethod
    def _resolve_microbatch_size(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("microbatch_size", "auto") != "auto":
            return values
        batch = values.get("global_batch_size", cls.model_fields["global_batch_size"].default)
        if not isinstance(batch, int):
            return values
        return {**values, "microbatch_size": max(1, math.ceil(batch / DEFAULT_MICROBATCHES))}

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


class Placement(Settings):
    """Where and how a run happens; none of these values changes the numbers."""

    backend: Literal["local", "ray"] = Field("local", description="threads in this process, or Ray actors")
    workers: PositiveInt | Range = Field(
        2, description="that each compute gradients on their shard; [2, 4] (or 2:4) takes from 2 to 4, as there are"
    )
    servers: PositiveInt | Literal["auto"] = Field(
        "auto", description="that each keep a slice of the parameters, beside the first workers; at most `workers`"
    )
    threads_per_worker: PositiveInt = Field(1, description="that share one worker's shard")
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
        300.0, description="seconds to wait for one step before workers count as lost"
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


class Config(Settings):
    """One YAML file: a recipe and a placement."""

    recipe: Recipe = Recipe()
    placement: Placement = Placement()


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Return the configuration in the YAML file at `path` (None: all defaults), with `overrides` applied.

    An override reads `recipe.optimizer.learning_rate=0.05`; its value is YAML. A relative path of data is looked for
    in the current folder, then beside the file at `path`. A run's own config.yaml is such a file too.

    Raises ConfigError for a file that cannot be read and for anything in it that is not understood.
    """
    values = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply_override(values, override)
    if path is None:
        return parse_config(values)
    if sentence := describe_newer(f"'{path}'", values.pop(WRITTEN_BY, None)):
        raise ConfigError(sentence)
    config = parse_config(values, origin=f"'{path}'")
    _check_module(config.recipe.model.function, Path(path).parent)
    return _find_data_beside(config, Path(path).parent)


def find_fields(name: str) -> list[str]:
    """Return the dotted paths of all fields called `name`, such as recipe.optimizer.learning_rate."""
    return [path for path in _field_paths(Config) if path.rpartition(".")[2] == name]


def describe_config(config: Config) -> str:
    """Return `config` as YAML with every field's meaning beside it; load_config reads it back as the same."""
    return "\n".join(_describe_section(config, ""))


def parse_config(values: Mapping[str, Any], origin: str = "the configuration") -> Config:
    """Return `values` as a Config; raises ConfigError with one sentence for each of the first three findings."""
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(describe_validation_error(error, Config, origin)) from None


def parse_yaml(text: str | bytes, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Return the values that YAML stands for: plain ones, never objects. loader: None for YAML that people write.

    Raises yaml.YAMLError, ValueError or RecursionError for text that is none, repeats a key, or is endless.
    """
    values = yaml.load(text, Loader=loader or _Loader)
    num_values = _count_values(values, {})
    if num_values > MAX_VALUES:
        raise ValueError(f"it stands for more than {MAX_VALUES:,} values; use fewer aliases")
    return values


def dump_yaml(values: Any, default_flow_style: bool = False) -> str:
    """Return plain values as YAML that any reader of YAML 1.1 or 1.2 reads back as the same."""
    return yaml.dump(
        values,
        Dumper=_Dumper,
        default_flow_style=default_flow_style,
        sort_keys=False,
        allow_unicode=True,
        width=math.inf,
    )


def _count_values(value: object, counted: dict[int, int]) -> int:
    """Return how many values there are when every alias is written out. counted: by identity, 0 while under way."""
    if not isinstance(value, dict | list):
        return 1
    if counted.get(id(value)) == 0:
        raise ValueError("an alias stands for what it is part of")
    if id(value) not in counted:
        counted[id(value)] = 0
        inner = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count_values(child, counted) for child in inner)
    return counted[id(value)]


def describe_validation_error(error: pydantic.ValidationError, model: type[BaseModel], origin: str) -> str:
    """Return pydantic's findings as sentences in distbp's words; unknown keys come with the nearest known one."""
    places: dict[str, list[Any]] = {}
    for finding in error.errors(include_url=False):
        where = [part for part in _path_of(finding) if not part.isdigit()]  # all of a list's elements are one place
        places.setdefault(".".join(where), []).append(finding)
    sentences = list(dict.fromkeys(_describe_place(findings, model) for findings in places.values()))
    more = f" (and {len(sentences) - 3} more)" if len(sentences) > 3 else ""
    return f"{origin}: " + "; ".join(sentences[:3]) + more


def _field_paths(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{path}" for path in _field_paths(field.annotation))


def _describe_section(section: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _describe_section(value, indent + "  ")
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            text = dump_yaml(plain, default_flow_style=True).removesuffix("...\n").strip()
            yield f"{indent}{name}: {text}".ljust(36) + f"  # {field.description}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}; {_advise_path(path)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration '{path}' is not UTF-8 text; expected a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"configuration '{path}' is not valid YAML: {_first_line(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"configuration '{path}' holds {_name_kind(values)}; expected the keys recipe and placement")
    return values


def _find_data_beside(config: Config, folder: Path) -> Config:
    """Return the configuration with each path of data that is not in the current folder, but in this one."""
    data = config.recipe.data
    names = {"source": data.source} if data.source != "digits" else {}
    if isinstance(data.validation, str) and data.validation != "digits":
        names["validation"] = data.validation
    if isinstance(data.target, str) and data.target.endswith(".npy"):
        names["target"] = data.target
    found = {field: _shorten(folder / name) for field, name in names.items() if _is_only_in(folder, name)}
    recipe = config.recipe.model_copy(update={"data": data.model_copy(update=found)})
    return config.model_copy(update={"recipe": recipe})


def _is_only_in(folder: Path, name: str) -> bool:
    try:
        return not Path(name).expanduser().exists() and (folder / name).exists()
    except (OSError, ValueError, RuntimeError):  # no path at all; who reads the data says so
        return False


def _shorten(path: Path) -> str:
    """Return a path relative to the current folder where it lies in it: so it travels with a job."""
    whole = Path(os.path.normpath(Path.cwd() / path))
    if not whole.exists():  # a link on the way leads elsewhere
        return str(path)
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)


def _check_module(function: str | None, folder: Path) -> None:
    """Raise ConfigError for a model's module that lies beside the configuration, from where Python does not import."""
    name = (function or "").partition(":")[0].partition(".")[0]
    beside = [path for path in (folder / f"{name}.py", folder / name / "__init__.py") if name and path.exists()]
    if beside and name not in sys.modules and importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"model.function={function}: '{beside[0]}' is not where Python imports from; run distbp in the folder "
            f"'{folder}', or set PYTHONPATH={folder.resolve()}"
        )


def _advise_path(path: Path) -> str:
    if "=" in path.name:
        return f"did you mean --set {path}?"
    try:
        near = difflib.get_close_matches(
            path.name, [sibling.name for sibling in path.parent.iterdir()], n=1, cutoff=0.8
        )
    except OSError:
        near = []
    return f"did you mean '{path.with_name(near[0])}'?" if near and not path.exists() else "check the path"


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
    shown = f"{problem}"[:MAX_SHOWN]
    return f"{shown} (line {mark.line + 1})" if mark else shown


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected KEY=VALUE, for example recipe.optimizer.learning_rate=0.05")
    if parts[0] not in Config.model_fields:
        parts = [_section_of(parts[0]), *parts]
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {_first_line(error)}") from None
    for part in parts[:-1]:
        inner = values.get(part)
        if inner is None:
            inner = values[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: '{part}' is {_name_kind(inner)}, not a section")
        values = inner
    values[parts[-1]] = value


def _section_of(key: str) -> str:
    """`placement` for a key of Placement, else `recipe`, so that `--set epochs=3` does what it says."""
    return "placement" if key in Placement.model_fields else "recipe"


def _describe_place(findings: list[Any], model: type[BaseModel]) -> str:
    """Return one sentence for all findings about one value, of which a union of types has one for each type."""
    deepest = max(findings, key=lambda finding: len(_path_of(finding)))  # an element of a list, if there are such
    findings = [finding for finding in findings if _path_of(finding) == _path_of(deepest)]
    by_value = [finding for finding in findings if finding["type"] not in _EXPECTED]
    if by_value:
        return _describe(by_value[0], model)
    others = [_EXPECTED[finding["type"]] for finding in findings[1:]]
    return " or ".join([_describe(findings[0], model), *dict.fromkeys(others)])


def _path_of(finding: Any) -> list[str]:
    return [str(part) for part in finding["loc"] if str(part) not in _UNION_BRANCHES]


def _describe(finding: Any, model: type[BaseModel]) -> str:
    path = _path_of(finding)
    name = ".".join(path) or "the top level"
    kind, value = finding["type"], finding.get("input")
    context = finding.get("ctx", {})
    if kind == "extra_forbidden":
        return _describe_unknown_key(path, model)
    if kind == "value_error":
        reason = str(context["error"])
        return f"{name}: {reason}" if path and path[0] in Config.model_fields and len(path) > 1 else reason
    if kind == "literal_error":
        return f"{name}={value!r} is not one of {context['expected']}" + _suggest(value, _quoted(context["expected"]))
    if kind in _BOUNDS:
        return f"{name}={value!r} must be {_BOUNDS[kind].format(*context.values())}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{name}={value!r}: {finding['msg'][0].lower()}{finding['msg'][1:]}"
    return f"{name} is {_name_kind(value)}{_show(value)}; expected {expected}"


_BOUNDS = {
    "greater_than": "greater than {}",
    "greater_than_equal": "at least {}",
    "less_than": "less than {}",
    "less_than_equal": "at most {}",
    "finite_number": "a finite number",
}
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "too_long": "two whole numbers",
    "missing": "two whole numbers",
    "dict_type": "keys with values",
    "model_type": "a section with keys",
    "model_attributes_type": "a section with keys",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text like my_module:build",
}
_UNION_BRANCHES = {
    "str",
    "float",
    "constrained-float",
    "constrained-int",
    "tuple[str, ...]",
    "tuple[constrained-int, ...]",
    "tuple[constrained-int, constrained-int]",
    "literal['auto']",
}


def _describe_unknown_key(path: list[str], model: type[BaseModel]) -> str:
    known = _fields_at(path[:-1], model)
    section = ".".join(path[:-1]) or "the top level"
    elsewhere = find_fields(path[-1])
    hint = f"; did you mean '{elsewhere[0]}'?" if elsewhere else _suggest(path[-1], known)
    return f"unknown key '{path[-1]}' in {section}" + (hint or f"; known: {', '.join(known)}")


def _fields_at(path: list[str], model: type[BaseModel]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _suggest(value: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _name_kind(value: object) -> str:
    names = {
        bool: "true/false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a section",
    }
    return "empty" if value is None else names.get(type(value), type(value).__name__)


def _show(value: object) -> str:
    return f" ({value!r})"[:60] if isinstance(value, bool | int | float | str | list) else ""


class _Loader(yaml.SafeLoader):
    """SafeLoader for the core schema of YAML 1.2, plus `<<`, that refuses a key given twice.

    So 010 is ten, 1e3 a number, and no, on, 1:30 and 1_000 are text, as they look; YAML 1.1 makes other values of them.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Return the number that an integer's digits stand for."""
        text = self.construct_scalar(node)
        bases = {"0o": 8, "0x": 16}
        return int(text[2:], bases[text[:2]]) if text[:2] in bases else int(text)


class _Dumper(yaml.SafeDumper):
    """SafeDumper whose text reads back as text by YAML 1.1 and 1.2, on one line."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return the node of a text, quoted where it has a line break or anything else that does not show."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
_Dumper.add_representer(str, _Dumper.represent_text)
for _kind, _pattern, _first in (  # YAML 1.2.2, section 10.3.2
    ("null", r"^(?:null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
    ("merge", r"^<<$", ["<"]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)
