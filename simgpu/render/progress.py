"""Progress of a long run: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from simgpu.terminal import tell
from simgpu.units import format_seconds

REFRESH_SECONDS = 0.2
LINE_SECONDS = 10.0


class ProgressLine:
    """Shows done of total, rate, failures, and the time that is left, to `out` (None: nowhere)."""

    def __init__(self, out: IO[str] | None, what: str) -> None:
        self.out, self.what = out, what
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._shown = 0.0
        if out is not None and out.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[failed]}"),
                console=Console(file=out),
                auto_refresh=False,  # no thread: worker processes are forked
            )

    def __enter__(self) -> ProgressLine:
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    def update(self, done: int, total: int, failed: int, ran: int, seconds: float) -> None:
        """Show new counts: `ran` of the `done` took `seconds`; the others were there before."""
        rate = ran / seconds if seconds > 0 else 0.0
        now = time.monotonic()
        if self._bar is not None:
            texts: dict[str, Any] = {
                "rate": f"{rate:,.3g}/s" if ran else "",
                "failed": f"{failed:,} failed" if failed else "",
            }
            if self._task is None:
                self._task = self._bar.add_task(self.what, total=total, completed=done, **texts)
            self._bar.update(self._task, completed=done, total=total, **texts)
            if now - self._shown >= REFRESH_SECONDS or done >= total:
                self._bar.refresh()
                self._shown = now
        elif self.out is not None and now - self._shown >= LINE_SECONDS:
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
            tell(f"{self.what}: {done:,} of {total:,}, {failed:,} failed, {rate:,.3g}/s{left}", self.out)
            self._shown = now


class SearchLine:
    """Shows how far a search is, to `out` (None: nowhere).

    It is one line that a terminal rewrites, elsewhere a line now and then.
    """

    def __init__(self, out: IO[str] | None) -> None:
        self.out = out
        self._status: Any = None
        self._shown = 0.0
        if out is not None and out.isatty():
            self._status = Console(file=out).status("deciding", refresh_per_second=5)

    def __enter__(self) -> SearchLine:
        self._began = self._shown = time.monotonic()
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def update(
        self,
        groups: int,
        done: int,
        plans: int,
        misfits: int,  # noqa: ARG002 - called with every count of `Progress`
        over: int,  # noqa: ARG002
        simulated: int,
        best: float,
        doing: str,
    ) -> None:
        """Show new counts; the parameters are fields of `simgpu.study.search.searching.Progress`."""
        now = time.monotonic()
        if self.out is None or now - self._shown < (REFRESH_SECONDS if self._status is not None else LINE_SECONDS):
            return
        self._shown = now
        rate = f", {plans / (now - self._began):,.0f} plans/s" if doing == "deciding" else ""
        counted = f"{plans:,} plans{rate}, " if plans else ""
        text = f"{doing}: {done:,} of {groups:,} groups, {counted}{simulated:,} simulated"
        if 0 < best < float("inf"):
            text += f", best {format_seconds(best)}"
        if self._status is not None:
            self._status.update(text)
        else:
            tell(f"search: {text}", self.out)
