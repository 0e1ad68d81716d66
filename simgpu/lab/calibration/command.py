"""The steps of `simgpu calibrate`: read, fit, write, print."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.lab.calibration import fragment, kinds, report
from simgpu.lab.calibration.outcome import Calibrated, as_dict
from simgpu.lab.calibration.run import calibrate
from simgpu.render.data import print_csv
from simgpu.render.files import written_whole


def run(
    files: Sequence[Path],
    catalogue: Catalogue,
    gpu: str | None,
    what: str,
    regime: str,
    progress: Callable[[str], None],
) -> Calibrated:
    """Fit; nothing is written."""
    return calibrate(files, catalogue, gpu, kinds_of(what), regime, progress)


def kinds_of(text: str, known: Sequence[str] = kinds.KINDS) -> tuple[str, ...]:
    """Kinds named with commas between; all of them for ''."""
    named = [word.strip() for word in text.split(",") if word.strip()]
    for word in named:
        if word not in known:
            raise InputError(f"unknown kind {shown(word)}{nearest(word, known)}", key="--what")
    return tuple(dict.fromkeys(named)) or tuple(known)


def write(done: Calibrated, catalogue: Catalogue, out: Path) -> Path | None:
    """Write the fragment (a .yaml file) or the GPU's whole file (into a folder). None where no constant moved."""
    if not done.moved:
        return None
    date = datetime.date.today().isoformat()
    if fragment.is_folder(out):
        file, text = out / "gpus" / f"{done.gpu.name}.yaml", fragment.whole_file(done, catalogue, date)
    else:
        file, text = out, fragment.fragment(done, date)
    with written_whole(file) as stream:
        stream.write(text)
    return file


def show(done: Calibrated, style: str, out: IO[str], with_fragment: bool) -> None:
    """Print the outcome, and the fragment if it goes to no file."""
    if style == "json":
        out.write(json.dumps(as_dict(done), indent=1, allow_nan=False) + "\n")
        return
    if style == "csv":
        print_csv(report.scores(done), out)
        return
    report.print_report(done, out)
    if not done.moved:
        out.write("no constant moved: the rows agree with what there is, or say too little\n")
    elif with_fragment:
        out.write("\n" + fragment.fragment(done, datetime.date.today().isoformat()))
