"""`distbp data show` and `distbp data pack`: data in blocks, before anything is trained on them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from distbp.cli.options import AsJson, Debug
from distbp.cli.terminal import Terminal, open_terminal

if TYPE_CHECKING:
    from distbp.data.blocks.describe import Description
    from distbp.data.describe_table import TableDescription

data = typer.Typer(rich_markup_mode="rich")

MOST_NAMES = 8

Source = Annotated[
    str,
    Argument(
        metavar="SRC",
        show_default=False,
        help="A folder, glob, file or URL of .parquet, .npy, .npz or .csv files",
    ),
]
Target = Annotated[
    list[str] | None,
    Option("--target", metavar="COLUMN", show_default=False, help="Column with the targets. Repeatable"),
]
TaskName = Annotated[
    Literal["classification", "regression"] | None,
    Option("--task", show_default=False, help="What the targets are. Without: told from their type"),
]


@data.callback(invoke_without_command=True)
def _data(context: typer.Context) -> None:
    """Look at data in blocks, or write them in blocks of a good size."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@data.command("show")
def show(
    source: Source, target: Target = None, task: TaskName = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Show the files, blocks, rows, columns and classes of a source, and what would make training on it slow."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.tables import format_pairs
        from distbp.data.blocks.describe import describe
        from distbp.data.blocks.kept import find_cache_folder
        from distbp.data.blocks.look import Question, look_at
        from distbp.data.describe_table import try_describing
        from distbp.errors import DataError

        table, problem = try_describing(source, _to_target(target), task)
        try:
            with _progress(terminal, "looking") as on_progress:
                question = Question(source, _to_target(target), task)
                found = describe(look_at(question, store=find_cache_folder("looks"), on_progress=on_progress))
        except DataError as error:  # blocks hold numbers only; a table that is read whole may hold anything
            if table is None:
                raise (problem or error) from None
            _show_table(terminal, table)
            terminal.document({"source": source, "table": asdict(table)})
            return
        terminal.show(format_pairs(_format(found)))
        for warning in found.warnings:
            terminal.note(f"Warning: {warning}", "yellow")
        if table is not None:
            terminal.show("")
            _show_table(terminal, table)
        terminal.document({**asdict(found), "table": None if table is None else asdict(table)})


def _show_table(terminal: Terminal, table: TableDescription) -> None:
    """Show what `distbp train` would make of each column."""
    from distbp.cli.tables import format_pairs

    summary = f"{table.rows:,} rows, {table.inputs:,} inputs, {table.task}"
    terminal.show(format_pairs({"trains on": summary, **table.columns}))
    for note in table.notes:
        if ": " not in note:  # the others are the columns once more
            terminal.note(note)


@data.command("pack")
def pack(
    source: Source,
    out: Annotated[str, Argument(metavar="OUT", show_default=False, help="A new folder, a path or URL")],
    target: Target = None,
    task: TaskName = None,
    seed: Annotated[int, Option(min=0, metavar="N", help="Another seed gives another order of the rows")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a source as Parquet in blocks of a good size, its rows shuffled across all blocks."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.tables import format_pairs
        from distbp.data.blocks.kept import find_cache_folder
        from distbp.data.blocks.look import Question, look_at
        from distbp.data.blocks.pack import pack as write_packed
        from distbp.text.masking import mask_secrets

        with _progress(terminal, "looking") as on_progress:
            question = Question(source, _to_target(target), task)
            look = look_at(question, store=find_cache_folder("looks"), on_progress=on_progress)
        with _progress(terminal, "packing") as on_progress:
            packed = write_packed(look, out, seed, on_progress)
        blocks = f"{packed.blocks:,} of up to {packed.rows_per_block:,} rows"
        shown = mask_secrets(out)
        pairs = {"packed": shown, "files": f"{packed.files:,}", "blocks": blocks, "rows": f"{packed.rows:,}"}
        terminal.show(format_pairs(pairs))
        if not packed.has_plain_target:
            setting = shlex.quote(f"data.target={json.dumps(packed.targets, ensure_ascii=False)}")
            terminal.note(f"To train on it, name its targets: --set {setting} --set data.task={packed.task}")
        terminal.document({"source": mask_secrets(source), "out": shown, "seed": seed, **asdict(packed)})


def _to_target(names: list[str] | None) -> str | tuple[str, ...] | None:
    if not names:
        return None
    return names[0] if len(names) == 1 else tuple(names)


def _format(found: Description) -> dict[str, str | None]:
    return {
        "source": found.source,
        "files": f"{found.files:,} ({found.kind}), {_size(found.bytes)}",
        "blocks": f"{found.blocks:,} of {_range(found.block_rows, '{:,}')} rows, {_range(found.block_bytes, _size)}",
        "rows": f"{found.rows:,}",
        "inputs": " x ".join(map(str, found.input_shape)) + (f": {_names(found.features)}" if found.features else ""),
        "targets": _names(found.targets) if found.targets else None,
        "task": found.task + (f", {found.num_outputs} outputs" if found.task == "regression" else ""),
        "classes": _names([f"{label} ({count:,})" for label, count in found.classes.items()]) or None,
    }


def _names(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _range(spread: tuple[int, int, int], form: str | Callable[[int], str]) -> str:
    show_number = form.format if isinstance(form, str) else form
    low, _, high = map(show_number, spread)
    return low if low == high else f"{low} to {high}"


def _size(num_bytes: int) -> str:
    size, units = float(num_bytes), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}"


@contextmanager
def _progress(terminal: Terminal, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many blocks are done: a bar on a terminal, nothing elsewhere."""
    from distbp.cli.bar import Bar

    with Bar(console=terminal.notes, transient=True, disable=not terminal.notes.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
