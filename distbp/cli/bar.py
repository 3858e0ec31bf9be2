"""Rich's progress bar, made to survive Ctrl-C. Apart from progress.py because it takes time to import."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import Progress

ECHO_WIDTH = 3


class Bar(Progress):
    """A bar that leaves room for the ^C that a terminal shows: else the ^C starts a new line, and an old bar stays."""

    def get_renderable(self) -> RenderableType:
        """Return what is drawn, a little narrower than the terminal."""
        return _Narrowed(super().get_renderable())


@dataclass(frozen=True)
class _Narrowed:
    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(max(1, options.max_width - ECHO_WIDTH)))
