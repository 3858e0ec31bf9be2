"""The first look at data in blocks: one pass that finds rows, columns, classes and statistics.

Blocks are looked at in any order and by whoever is there, and merged in their own order. So the result has the same
bits however many threads or machines looked. It is stored, and reused while the files stay what they were.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from distbp.data.blocks.decoding import Decoder
from distbp.data.blocks.fetch import Fetcher, write_whole
from distbp.data.blocks.files import DataFile, Listing, list_files
from distbp.data.blocks.parquet_blocks import find_partitions
from distbp.data.blocks.parts import Block, Contents, FileParts
from distbp.data.blocks.permutation import is_held_out
from distbp.data.columns import choose_columns
from distbp.data.finite import check_finite, iterate_chunks
from distbp.data.raw import Wanted
from distbp.data.reading import list_names
from distbp.data.scaling import Extent, Moments, ScalingKind
from distbp.data.tables import find_weight
from distbp.data.targets import Label, TargetSpec, Task, read_labels, read_sequences, specify_classes
from distbp.data.weights import describe_no_weight
from distbp.errors import DataError
from distbp.nn.model import IGNORED
from distbp.protocol.examples import Scaling

A = TypeVar("A")
B = TypeVar("B")
Mapper = Callable[[Callable[[A], B], Iterable[A]], Iterator[B]]
"""Calls a function for every item, anywhere and in any order, and yields the results in the order of the items."""

FORMAT = 3
MOST_CLASSES = 1 << 16


@dataclass(frozen=True)
class Question:
    """What a look is asked. held_out: the fraction that is kept from training, chosen by `seed`.

    features, classes: of the run that these are other data for; None: all columns, and the classes that are found.
    weight: the column with what each example counts; other data than those of training may lack it.
    """

    source: str
    target: str | tuple[str, ...] | None = None
    task: Task | None = None
    held_out: float = 0.0
    seed: int = 0
    features: tuple[str, ...] | None = None
    classes: tuple[Label, ...] | None = None
    weight: str | None = None


@dataclass(frozen=True)
class BlockFacts:
    """What is kept of one block. top_rows: how many of its rows are of its commonest class; digest: of every value."""

    block: Block
    num_rows: int
    num_held_out: int
    num_classes: int
    top_rows: int
    digest: str

    @property
    def num_training(self) -> int:
        """How many rows are trained on."""
        return self.num_rows - self.num_held_out


@dataclass(frozen=True)
class Statistics:
    """Per feature, (I,), over the rows that are trained on."""

    count: int
    mean: tuple[float, ...]
    squares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_scaling(self, kind: ScalingKind) -> Scaling:
        """Return the scaling that these features ask for."""
        if kind == "none":
            return Scaling()
        if kind == "min-max":
            return Extent(np.array(self.low), np.array(self.high)).to_scaling()
        return Moments(self.count, np.array(self.mean), np.array(self.squares)).to_scaling()


@dataclass(frozen=True)
class Look:
    """All that a first look found. dtype: in which x is read; classes: with the number of examples of each.

    trained: of each class, how many examples are trained on. target_shape: (T,) where an example has a sequence of
    classes. targets: statistics of the targets of a regression, (O,), over the rows that are trained on.
    """

    format: int
    contents: Contents
    blocks: tuple[BlockFacts, ...]
    input_shape: tuple[int, ...]
    dtype: str
    task: Task
    classes: tuple[tuple[Label, int], ...]
    num_outputs: int
    statistics: Statistics
    trained: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    targets: Statistics | None = None

    @property
    def num_rows(self) -> int:
        """All rows of all blocks."""
        return sum(facts.num_rows for facts in self.blocks)

    @property
    def spec(self) -> TargetSpec:
        """What the targets mean."""
        labels = tuple(label for label, _ in self.classes)
        return TargetSpec(self.task, labels or None, self.num_outputs, self.target_shape)

    def fingerprint(self) -> str:
        """Return a SHA-256 over every value, the blocks and the classes, wherever and however they are stored."""
        found = [[(facts.num_rows, facts.digest) for facts in self.blocks], self.classes]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def look_at(
    question: Question,
    fetcher: Fetcher | None = None,
    mapper: Mapper | None = None,
    store: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Look:
    """Return what a source holds, the same for the same files and question.

    mapper: None for threads of this process. store: the folder where looks are kept. on_progress: is told how many
    blocks of how many are done.

    Raises DataError for whatever is wrong with the data, naming the file.
    """
    listing = list_files(question.source)
    path = None if store is None else store / f"{_key(listing, question)}.json"
    known = None if path is None else _load(path)
    if known is not None:
        return known
    own = Fetcher()
    try:
        look = _look(listing, question, fetcher or own, mapper or in_threads, on_progress or (lambda _, __: None))
    finally:
        own.stop()
    if path is not None:
        with suppress(OSError):  # a look that cannot be stored is made again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _ADAPTER.dump_json(look))
    return look


def in_threads(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Yield function(item) in the order of the items, called in as many threads as the machine has cores."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after an error nobody waits for the rest


def _look(
    listing: Listing,
    question: Question,
    fetcher: Fetcher,
    mapper: Mapper,
    on_progress: Callable[[int, int], None],
) -> Look:
    partitions = find_partitions([file.name for file in listing.files])
    text_targets = question.classes is not None and isinstance(question.classes[0], str)
    contents = Contents(listing, partitions=partitions, text_targets=text_targets)
    parts = list(mapper(_Splitter(Decoder(contents, fetcher)), range(len(listing.files))))
    contents = replace(contents, footers=tuple(part.footer_bytes for part in parts))
    contents = _choose(contents, parts, question)
    blocks = [block for part in parts for block in part.blocks]
    if not blocks:
        raise DataError(f"'{question.source}' has columns but no rows; expected at least one example")
    try:
        merged = _summarize_all(contents, blocks, question, fetcher, mapper, on_progress)
    except _MixedTargetsError:
        if listing.suffix != ".csv":
            raise
        # One block looks like numbers, another does not: then all are text.
        contents = replace(contents, text_targets=True)
        merged = _summarize_all(contents, blocks, question, fetcher, mapper, on_progress)
    return merged.to_look(question)


def _choose(contents: Contents, parts: list[FileParts], question: Question) -> Contents:
    """Return the contents with their columns chosen; raises DataError where two files differ."""
    listing = contents.listing
    first, first_file = parts[0].columns, listing.files[0]
    if not first:
        if question.target is not None:
            raise DataError(f"target={question.target!r} names nothing in '{listing.source}'; leave target out")
        if question.weight is not None:
            raise DataError(
                f"data.weight={question.weight} names a column, and '{listing.source}' has none; leave it out"
            )
        return contents
    for file, part in zip(listing.files, parts, strict=True):
        _compare_columns(first_file, dict(first), file, dict(part.columns))
    names = [name for name, _ in first]
    is_other = question.features is not None
    wanted = Wanted(question.target, held_out=is_other, feature_names=question.features, weight=question.weight)
    features, targets = choose_columns(names, wanted, f"'{first_file.url}'")
    weight = find_weight(names, wanted)
    return replace(contents, features=features, targets=targets, weight=weight if weight in names else None)


def _compare_columns(one: DataFile, expected: dict[str, str], other: DataFile, found: dict[str, str]) -> None:
    for name in [*expected, *found]:
        if name not in found:
            difference = f"'{other.url}' has no column {name!r}, which '{one.url}' has"
        elif name not in expected:
            difference = f"'{other.url}' has a column {name!r}, which '{one.url}' has not"
        elif found[name] != expected[name]:
            difference = f"column {name!r} is {found[name]} in '{other.url}' but {expected[name]} in '{one.url}'"
        else:
            continue
        raise DataError(f"{difference}; all files of a source need the same columns")


@dataclass(frozen=True)
class _Splitter:
    decoder: Decoder

    def __call__(self, number: int) -> FileParts:
        return self.decoder.split(number)


@dataclass(frozen=True)
class _Summary:
    """What one block adds. labels, trained: of all rows and of those that are trained on; None for a regression.

    has_weight: whether any row that is trained on counts more than 0.
    """

    num_held_out: int
    num_rows: int
    input_shape: tuple[int, ...]
    dtype: np.dtype
    num_targets: int
    labels: dict[Label, int] | None
    trained: dict[Label, int]
    target_shape: tuple[int, ...]
    moments: Moments | None
    extent: Extent | None
    targets: Moments | None
    target_extent: Extent | None
    has_weight: bool
    digest: str


@dataclass(frozen=True)
class _Summarizer:
    decoder: Decoder
    question: Question

    def __call__(self, numbered: tuple[int, Block]) -> _Summary:
        number, block = numbered
        raw = self.decoder.decode(block)
        check_finite(raw.x, raw.locate_input, raw.origin)
        held = find_held_out(number, len(raw.x), self.question.held_out, self.question.seed)
        rows = np.flatnonzero(~held)
        moments, extent = _measure(raw.x, rows)
        assert raw.y is not None  # blocks are read with their targets
        sequences = read_sequences(raw, self.question.task)
        labels = read_labels(raw, self.question.task) if sequences is None else sequences
        # Whole numbers too: another block may say that these are a quantity.
        is_measured = sequences is None and raw.y.dtype != object
        numbers = raw.y.reshape(len(raw.y), -1) if is_measured else None
        if numbers is not None:
            check_finite(numbers, raw.locate_target, raw.origin)
        targets, target_extent = (None, None) if numbers is None else _measure(numbers, rows)
        return _Summary(
            num_held_out=int(held.sum()),
            num_rows=len(raw.x),
            input_shape=raw.input_shape,
            dtype=raw.x.dtype,
            num_targets=1 if raw.y.ndim == 1 else raw.y.shape[1],
            labels=None if labels is None else _count(labels),
            trained={} if labels is None else _count(labels[rows]),
            target_shape=() if sequences is None else sequences.shape[1:],
            moments=moments,
            extent=extent,
            targets=targets,
            target_extent=target_extent,
            has_weight=raw.weights is None or bool(raw.weights[rows].any()),
            digest=_digest(raw.x, raw.y, raw.weights),
        )


def _digest(x: NDArray, y: NDArray, weights: NDArray | None) -> str:
    """Return a hash of every value, equal wherever they are stored."""
    targets = "\0".join(y.tolist()).encode() if y.dtype == object else np.ascontiguousarray(y).data
    found = hashlib.blake2b(f"{x.dtype} {x.shape} {y.dtype} {y.shape}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(x).data)
    found.update(targets)
    if weights is not None:
        found.update(weights.data)
    return found.hexdigest()


def find_held_out(block: int, num_rows: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which rows of a block are kept from training, (num_rows,); a row's index is (block, row)."""
    return is_held_out((block << 32) + np.arange(num_rows), fraction, seed)


def _count(labels: NDArray) -> dict[Label, int]:
    known = labels[labels != IGNORED] if labels.ndim > 1 else labels
    values, counts = np.unique(known, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _measure(x: NDArray, rows: NDArray[np.int64]) -> tuple[Moments | None, Extent | None]:
    """Return the moments and the extent of some rows, by chunks of a fixed size from front to back."""
    moments: Moments | None = None
    extent: Extent | None = None
    for start, chunk in iterate_chunks(x):
        first, last = np.searchsorted(rows, (start, start + len(chunk)))
        if first < last:
            values = chunk[rows[first:last] - start].astype(np.float64)
            part = Extent.of(values)
            extent = part if extent is None else extent.merge(part)
            moment = Moments.of(values)
            moments = moment if moments is None else moments.merge(moment)
    return moments, extent


class _MixedTargetsError(DataError):
    """Targets are text in one block and numbers in another."""


class _Merged:
    """All blocks so far, in their order."""

    def __init__(self, contents: Contents):
        self._contents = contents
        self._facts: list[BlockFacts] = []
        self._labels: dict[Label, int] = {}
        self._trained: dict[Label, int] = {}
        self._has_weight = False
        self._dtypes: set[np.dtype] = set()
        self._is_regression = False
        self._next_row: dict[int, int] = {}
        self._inputs: _Measured | None = None
        self._targets: _Measured | None = None
        self._first: tuple[Block, _Summary] | None = None

    def add(self, block: Block, summary: _Summary) -> None:
        self._check_shape(block, summary)
        first_row = self._next_row.get(block.file, 0)
        self._next_row[block.file] = first_row + summary.num_rows
        block = replace(block, num_rows=summary.num_rows, first_row=first_row)
        labels = summary.labels or {}
        self._add_labels(summary.labels, most=None if summary.target_shape else MOST_CLASSES)
        top = 0 if summary.target_shape else max(labels.values(), default=0)
        for label, count in summary.trained.items():
            self._trained[label] = self._trained.get(label, 0) + count
        self._facts.append(BlockFacts(block, summary.num_rows, summary.num_held_out, len(labels), top, summary.digest))
        self._dtypes.add(summary.dtype.newbyteorder("="))
        self._has_weight |= summary.has_weight
        self._inputs = _merge(self._inputs, summary.moments, summary.extent)
        self._targets = _merge(self._targets, summary.targets, summary.target_extent)

    def to_look(self, question: Question) -> Look:
        assert self._first is not None  # there is a block
        num_rows = sum(facts.num_rows for facts in self._facts)
        if self._inputs is None or (question.held_out and self._inputs.moments.count == num_rows):
            raise DataError(
                f"validation={question.held_out} of {num_rows} examples leaves nothing for training or nothing for "
                "validation; change validation (0.0: none) or add data"
            )
        if question.features is None and self._contents.weight is not None and not self._has_weight:
            raise DataError(describe_no_weight(self._contents.weight, f"'{question.source}'"))
        shape = self._first[1].target_shape
        spec = TargetSpec("regression", None, self._first[1].num_targets)
        labels = tuple(sorted(self._labels))
        if question.classes is not None:
            spec = self._specify_known(question.classes)
        elif shape:
            spec = TargetSpec("classification", tuple(range(int(labels[-1]) + 1)), int(labels[-1]) + 1)
        elif not self._is_regression:
            spec = specify_classes(labels, num_rows, f"'{question.source}'", is_task_open=question.task is None)
        return Look(
            format=FORMAT,
            contents=self._contents,
            blocks=tuple(self._facts),
            input_shape=self._first[1].input_shape,
            dtype=np.result_type(*self._dtypes).str,
            task=spec.task,
            classes=tuple((label, self._labels.get(label, 0)) for label in spec.classes or ()),
            num_outputs=spec.num_outputs,
            statistics=self._inputs.to_statistics(),
            trained=tuple(self._trained.get(label, 0) for label in spec.classes or ()),
            target_shape=shape,
            targets=self._targets.to_statistics() if self._targets and spec.task == "regression" else None,
        )

    def _specify_known(self, classes: tuple[Label, ...]) -> TargetSpec:
        known = set(classes)
        unknown = [label for label in self._labels if label not in known]
        if unknown or self._is_regression:
            what = f"the label {unknown[0]!r}" if unknown else "targets that are no classes"
            source = self._contents.listing.source
            raise DataError(f"'{source}' has {what}; the run was trained on the classes {list_names(classes)}")
        return TargetSpec("classification", classes, len(classes))

    def _check_shape(self, block: Block, summary: _Summary) -> None:
        if self._first is None:
            self._first = (block, summary)
        first_block, first = self._first
        mine, its = (summary.input_shape, summary.num_targets), (first.input_shape, first.num_targets)
        if mine != its:
            one, other = self._contents.file(first_block).url, self._contents.file(block).url
            raise DataError(
                f"'{other}' has inputs of shape {mine[0]} with {mine[1]} targets, but '{one}' {its[0]} with {its[1]}; "
                "all files of a source need the same shape"
            )

    def _add_labels(self, labels: dict[Label, int] | None, most: int | None) -> None:
        is_text = {isinstance(label, str) for label in (*self._labels, *(labels or {}))}
        if len(is_text) > 1 or (True in is_text and (self._is_regression or labels is None)):
            raise _MixedTargetsError(
                f"the targets of '{self._contents.listing.source}' are text in one file and numbers in another; "
                "write all of them as text or all as numbers"
            )
        self._is_regression |= labels is None
        for label, count in (labels or {}).items():
            self._labels[label] = self._labels.get(label, 0) + count
        if most is not None and len(self._labels) > most and not self._is_regression:
            raise DataError(
                f"'{self._contents.listing.source}' has more than {most} different labels, too many for "
                "classes; name another target, or set task: regression if it is a quantity"
            )


def _summarize_all(
    contents: Contents,
    blocks: list[Block],
    question: Question,
    fetcher: Fetcher,
    mapper: Mapper,
    on_progress: Callable[[int, int], None],
) -> _Merged:
    merged = _Merged(contents)
    summaries = mapper(_Summarizer(Decoder(contents, fetcher), question), enumerate(blocks))
    for number, (block, summary) in enumerate(zip(blocks, summaries, strict=True)):
        merged.add(block, summary)
        on_progress(number + 1, len(blocks))
    return merged


@dataclass(frozen=True)
class _Measured:
    """Moments and extent of the same rows."""

    moments: Moments
    extent: Extent

    def to_statistics(self) -> Statistics:
        moments, extent = self.moments, self.extent
        arrays = (moments.mean, moments.squares, extent.low, extent.high)
        mean, squares, low, high = (tuple(array.tolist()) for array in arrays)
        return Statistics(moments.count, mean, squares, low, high)


def _merge(known: _Measured | None, moments: Moments | None, extent: Extent | None) -> _Measured | None:
    if moments is None or extent is None:
        return known
    if known is None:
        return _Measured(moments, extent)
    return _Measured(known.moments.merge(moments), known.extent.merge(extent))


_ADAPTER: TypeAdapter[Look] = TypeAdapter(Look)


def _key(listing: Listing, question: Question) -> str:
    asked: list[Any] = [FORMAT, listing.identity(), repr(question)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _load(path: Path) -> Look | None:
    """Return a stored look; None if there is none, or it is damaged or of another version."""
    try:
        look = _ADAPTER.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
    return look if look.format == FORMAT else None
