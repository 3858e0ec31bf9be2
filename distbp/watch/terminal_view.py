"""The states of runs as a screen of text, for any width from 40 columns. Pure.

Names, labels and reasons are a user's: they are shown as text, and characters that steer a terminal are not shown.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.text import Text

from distbp.pages.words import count, duration, number
from distbp.watch.plot import draw_bar, draw_curves
from distbp.watch.state import RunState, average_newest_losses

COLORS = {"finished": "green", "diverged": "red", "failed": "red", "died": "red", "silent": "red", "stopped": "yellow"}
WIDE = 100
KEYS = "← → 1-9 another run   q quit"


def view_runs(states: Sequence[RunState], chosen: int, width: int, height: int) -> list[Text]:
    """Return a screen of `height` lines: one for each run if there are several, then all about the chosen one."""
    lines: list[Text] = []
    if len(states) > 1:
        lines += [*_list_runs(states, chosen, width, max(1, height // 3)), Text("─" * width, "dim")]
    keys = Text(KEYS if len(states) > 1 else "q quit", "dim")
    lines += view_run(states[chosen], width, height - len(lines) - 1)
    lines = lines[: height - 1]
    return [*lines, *[Text()] * (height - 1 - len(lines)), keys]


def view_run(state: RunState, width: int, height: int) -> list[Text]:
    """Return up to about `height` lines about one run."""
    above = [*_view_head(state, width), *_view_progress(state, width)]
    below = [*_view_times(state, width), *_view_workers(state)]
    happenings = list(_list_happenings(state))
    room = height - len(above) - len(below) - 1  # for the curves and what happened
    least = min(len(happenings), max(3, min(8, room // 3)))
    tall = max(14, min(22, room - len(happenings)))
    curves = list(_view_curves(state, width, min(tall, room - least)))
    lines = [*above, *curves, *below]
    if happenings:
        lines += [Text("what happened", "bold"), *happenings[-max(least, room - len(curves)) :]]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def summarize_run(state: RunState, width: int = 80) -> Text:
    """Return one line: name, state, progress, loss, accuracy, time left."""
    room = max(16, width - 59)
    bar_width = max(6, min(24, room // 2))
    name_width = max(8, min(24, room - bar_width))
    return Text.assemble(
        clean(state.name)[:name_width].ljust(name_width + 1),
        (f"{state.state:<10}", COLORS.get(state.state, "cyan")),
        (draw_bar(state.progress or 0.0, bar_width), "blue"),
        f" {_percent(state.progress):>5}",
        f"  loss {number(average_newest_losses(state.steps)):<6}",
        "" if state.happened.evaluated is None else f"  acc {_accuracy(state.happened.evaluated.accuracy)}",
        "" if state.seconds_left is None else f"  {_left(state.seconds_left)} left",
    )


def clean(text: str) -> str:
    """Return a text on one line, with a dot for each character that is none to see, such as those of escape codes."""
    return "".join(c if c.isprintable() else "·" for c in " ".join(text.split()))


def _list_runs(states: Sequence[RunState], chosen: int, width: int, room: int) -> Iterator[Text]:
    """Yield a line for each run, or for those around the chosen one."""
    first = max(0, min(chosen - room // 2, len(states) - room))
    for place, state in list(enumerate(states))[first : first + room]:
        mark = "▶" if place == chosen else " "
        line = Text.assemble((f"{mark}{place + 1:>2} ", "bold"), summarize_run(state, width - 4))
        line.truncate(width, overflow="ellipsis")
        if place == chosen:
            line.stylize("bold")
        yield line


def _view_head(state: RunState, width: int) -> Iterator[Text]:
    url = clean(state.url)
    place = f"  {url}" if url != state.name else ""
    yield Text.assemble((clean(state.name), "bold"), (place, "dim"), "  ", _state(state))
    for sentence, style in ((state.detail, COLORS.get(state.state, "")), (state.note, "yellow")):
        if sentence:
            yield from (Text(line, style) for line in textwrap.wrap(clean(sentence), width)[:3])
    if state.digest:
        yield Text(f"digest {clean(state.digest)}")


def _state(state: RunState) -> Text:
    quiet = f", nothing new for {duration(round(state.quiet_s))}" if _is_quiet(state) else ""
    return Text(f"{state.state}{quiet}", COLORS.get(state.state, "cyan"))


def _is_quiet(state: RunState) -> bool:
    """Whether a run that works has told nothing for longer than object stores need."""
    return state.state in ("running", "recovering") and state.quiet_s > 45


def _view_progress(state: RunState, width: int) -> Iterator[Text]:
    steps, happened = state.steps, state.happened
    if steps.last is None:
        yield Text("no step has been done yet", "dim")
        return
    of = f" of {state.num_steps:,}" if state.num_steps else ""
    epochs = f" of {state.num_epochs:,}" if state.num_epochs else ""
    speed = steps.pace.steps_per_second
    parts = [f"step {state.step:,}{of}", f"epoch {steps.last.epoch + 1:,}{epochs}"]
    parts += [f"{number(speed)} steps/s"] if speed is not None else []
    parts += [f"{_left(state.seconds_left)} left"] if state.seconds_left is not None else []
    yield Text("   ".join(parts))
    yield Text.assemble(
        (draw_bar(state.progress or 0.0, max(10, width - 7)), "blue"), f" {_percent(state.progress):>5}"
    )
    learned = [f"loss {number(average_newest_losses(steps))} training"]
    if happened.evaluated is not None:
        learned[0] += f", {number(happened.evaluated.loss)} validation"
    if happened.evaluated is not None and happened.evaluated.accuracy is not None:
        accuracy = f"accuracy {_accuracy(happened.evaluated.accuracy)}"
        learned.append(f"{accuracy} (best {_accuracy(happened.best_accuracy)})")
    yield Text("   ".join(learned))


def _view_curves(state: RunState, width: int, height: int) -> Iterator[Text]:
    losses = [state.steps.losses.thinned(width).points, state.happened.validation_losses.points]
    accuracies = state.happened.accuracies.points
    if len(losses[0]) < 2 or height < 4:
        return
    if width < WIDE or len(accuracies) < 2:
        yield from _plot(losses, width, height, "loss")
        return
    half = (width - 2) // 2
    plots = _plot(losses, half, height, "loss"), _plot([accuracies], half, height, "accuracy")
    for left, right in zip(*plots, strict=True):
        left.pad_right(half + 2 - left.cell_len)
        yield Text.assemble(left, right)


def _plot(curves: Sequence[Sequence[tuple[float, float]]], width: int, height: int, name: str) -> Iterator[Text]:
    shown = [points for points in curves if points]
    styles = ["blue", "dark_orange"]
    title = Text(name, "bold")
    if len(shown) > 1:
        title = Text.assemble((name, "bold"), "  ", ("training", styles[0]), "  ", ("validation", styles[1]))
    yield title
    for line in draw_curves(shown, width, height - 1):
        yield Text.assemble(*((text, "dim" if curve < 0 else styles[curve]) for text, curve in line))


def _view_times(state: RunState, width: int) -> Iterator[Text]:
    pace = state.steps.pace
    if pace.shares:
        is_alone = pace.evenness is None or (state.happened.num_workers or 1) < 2
        even = "" if is_alone else f"   workers {_percent(pace.evenness)} even"
        yield Text.assemble(("a step   ", "bold"), _list_shares(pace.shares), even)
    if state.accounts:
        when = "" if state.accounts_step is None else f"   (at step {state.accounts_step:,})"
        recoveries = f"   recovered {count(state.recoveries, 'time')}" if state.recoveries else ""
        line = Text.assemble(("the run  ", "bold"), _list_shares(state.accounts), recoveries, when)
        if line.cell_len > width:
            yield Text.assemble(("the run  ", "bold"), _list_shares(state.accounts))
            line = Text(" " * 9 + f"{recoveries}{when}".strip())
        yield line


def _list_shares(shares: Mapping[str, float]) -> str:
    """Name every share; the many that are nothing are left out, so that a narrow terminal has place for the others."""
    seen = {name: text for name, share in shares.items() if (text := _percent(share)) not in ("", "0 %")}
    return "  ".join(f"{name} {text}" for name, text in seen.items())


def _view_workers(state: RunState) -> Iterator[Text]:
    happened = state.happened
    if happened.num_workers is not None:
        members = f": {', '.join(map(clean, happened.members))}" if happened.members else ""
        division = happened.division
        shares = f"   microbatches {', '.join(map(str, division))}" if division else ""
        text = f"{happened.num_workers:,}{shares}{members}"
        yield Text.assemble(("workers  ", "bold"), text)
    if happened.checkpoint_step is not None:
        at = "" if happened.checkpoint_time is None else f" at {_clock(happened.checkpoint_time)}"
        yield Text.assemble(("saved    ", "bold"), f"step {happened.checkpoint_step:,}{at}")


def _list_happenings(state: RunState) -> Iterator[Text]:
    for happening in state.happened.happenings:
        step = "" if happening.step is None else f"step {happening.step:,}"
        style = "yellow" if happening.is_trouble else ""
        yield Text.assemble((f"{_clock(happening.time):<9}{step:<14}", "dim"), (clean(happening.text), style))


def _clock(seconds: float | None) -> str:
    try:
        return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return ""


def _left(seconds: float) -> str:
    """Return 0:07, 12:34, 5:06:07 or 12 days."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours // 24:,} days"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _percent(share: float | None) -> str:
    return "" if share is None or not math.isfinite(share) else f"{100 * share:.0f} %"


def _accuracy(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
