"""`python -m tests.fuzz`: run many inputs, count what came of them, keep the defects."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from .inputs import KINDS, Input, draw
from .trial import ANSWERED, REFUSED, Outcome
from .workers import quiet, run, run_all


def main() -> int:
    """Exit code 0 where no defect was found, else 1."""
    asked = _arguments()
    kinds = tuple(asked.kind)
    if asked.only is not None:
        quiet()
        given = draw(asked.seed, asked.only, kinds)
        print(_told(given))
        found = run(given)
        print(f"{found.name} ({found.seconds:.2f} s): {found.detail}")
        return int(found.defect)
    shutil.rmtree(asked.out, ignore_errors=True)
    counts: Counter[tuple[str, str]] = Counter()
    seconds: Counter[str] = Counter()
    began, done, defects = time.monotonic(), 0, 0
    try:
        for number, kind, found in run_all(iter(range(asked.count)), asked.seed, asked.jobs, kinds):
            counts[kind, found.name] += 1
            seconds[kind] += found.seconds
            done += 1
            if found.defect:
                defects += 1
                _keep(asked.out, number, draw(asked.seed, number, kinds), found, asked.seed, kinds)
            _tell(f"{done:,} of {asked.count:,} inputs, {defects} defects, {time.monotonic() - began:.0f} s", done)
    except KeyboardInterrupt:  # what is counted is shown
        print("interrupted", file=sys.stderr)
    _print(counts, seconds, time.monotonic() - began)
    if defects:
        print(f"\n{defects} defects of {done:,}: {asked.out}")
    else:
        print(f"\n0 defects of {done:,}")
    return int(defects > 0)


def _tell(line: str, done: int) -> None:
    """How far it is: on a terminal one line that changes, elsewhere a line now and then."""
    if sys.stderr.isatty():
        print(f"\r{line}", end="", file=sys.stderr)
    elif done % 500 == 0:
        print(line, file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="inputs (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default: 2)")
    parser.add_argument("--kind", action="append", default=[], choices=list(KINDS), help="only this kind; repeatable")
    parser.add_argument("--only", type=int, metavar="N", help="run input N alone, here, and show it")
    parser.add_argument(
        "--out", type=Path, default=Path("results/fuzz"), help="defects go there (default: results/fuzz)"
    )
    return parser.parse_args()


def _told(given: Input) -> str:
    """An input for people."""
    files = "".join(f"--- {name}\n{content[:3000].decode(errors='replace')}\n" for name, content in given.files.items())
    return files + (given.call or shlex.join(["simgpu", *given.arguments]))


def _keep(out: Path, number: int, given: Input, found: Outcome, seed: int, kinds: tuple[str, ...]) -> None:
    """A folder for a defect: its files, the command, what was seen, and how to repeat it."""
    folder = out / f"{found.name.replace(' ', '-')}-{number}"
    for name, content in given.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = "".join(f" --kind {shlex.quote(kind)}" for kind in kinds)
    again = f"python -m tests.fuzz --seed {seed} --only {number}{chosen}"
    command = given.call or shlex.join(["simgpu", *given.arguments])
    told = f"{given.kind}\n{again}\n\n{command}\n\n{found.name}: {found.detail}\n"
    (folder / "defect.txt").write_bytes(told.encode("utf-8", "backslashreplace"))


def _print(counts: Counter[tuple[str, str]], seconds: Counter[str], whole: float) -> None:
    others = sorted({name for _, name in counts} - {ANSWERED, REFUSED})
    names = [ANSWERED, REFUSED, *others]
    width = max(map(len, KINDS))
    print(
        f"\n{'':{width}}  {'inputs':>8}" + "".join(f"  {name:>{max(8, len(name))}}" for name in names) + "       CPU s"
    )
    for kind in (*KINDS, ""):
        row = [
            sum(count for (of, what), count in counts.items() if kind in (of, "") and what == name) for name in names
        ]
        if not sum(row):
            continue
        spent = seconds[kind] if kind else sum(seconds.values())
        cells = "".join(f"  {n:>{max(8, len(name))},}" for n, name in zip(row, names, strict=True))
        print(f"{kind or 'all':{width}}  {sum(row):>8,}{cells}  {spent:>10,.0f}")
    print(f"{whole:.0f} s by the clock")


if __name__ == "__main__":
    sys.exit(main())
