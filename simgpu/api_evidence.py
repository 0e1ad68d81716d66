"""Short calls about real machines: what logs say, what a new one does, where a fabric is weak, what others claim.

`simgpu` itself offers them, as it does those of `simgpu.api`: `simgpu.compare("my-run.yaml", logs="train.log")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.api import EXPERIMENT
from simgpu.api_parts import CATALOGUE
from simgpu.arguments import NUMBER, PATH, TEXT, WHOLE, Kind, takes
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.tabular import Tabular

if TYPE_CHECKING:
    from simgpu.claims.check import Claims
    from simgpu.lab.replay.command import Asked as ReplayAsked
    from simgpu.scenario import Origins, Scenario
    from simgpu.study.capacity.command import Capacities
    from simgpu.study.experiment.loading import Case
    from simgpu.study.experiment.running import Given

WHOLES = Kind(
    "whole numbers", lambda value: isinstance(value, (list, tuple)) and all(WHOLE.holds(one) for one in value)
)
FILES = PATH | Kind("paths", lambda value: isinstance(value, (list, tuple)) and all(PATH.holds(one) for one in value))
Files = str | Path | Sequence[str | Path]


@dataclass(frozen=True, repr=False)
class Told(Tabular):
    """An answer as the command of the same name gives it in JSON: `document`, and its `rows`."""

    name: str
    document: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def _paths(given: Files) -> list[Path]:
    return [Path(one) for one in ([given] if isinstance(given, (str, Path)) else given)]


def _cases(experiment: Given, settings: Sequence[str], catalogue: Catalogue) -> Sequence[Case]:
    from simgpu.study.search.ranked import open_experiment

    return open_experiment(experiment, settings, catalogue).cases


def _case(experiment: Given, settings: Sequence[str], number: int, catalogue: Catalogue) -> Case:
    cases = _cases(experiment, settings, catalogue)
    if not 1 <= number <= len(cases):
        raise InputError(f"{number}: the experiment has {len(cases)}", key="case")
    return cases[number - 1]


@takes(logs=PATH, of=EXPERIMENT, cases=WHOLES, out=PATH, catalogue=CATALOGUE)
def observe(
    *logs: str | Path, of: Given | None = None, cases: Sequence[int] = (), out: str | Path | None = None,
    catalogue: Catalogue | None = None,
) -> Told:  # fmt: skip
    """Say what logs measured; with `of`, the experiment that they are of, learn factors of the machine from them.

    `cases` are the rows of the experiment that the logs are of, in their order; `out` is the file that learned factors
    are written to, which is then a cluster. Raises `InputError`.
    """
    from simgpu.lab.logs import command

    runs = command.observe([Path(one) for one in logs])
    if of is None:
        if out is not None or cases:
            raise InputError("says what the logs are of; expected of=EXPERIMENT with it", key="out or cases")
        return Told("observe", command.observed_document(runs), command.observed_rows(runs))
    known = catalogue or Catalogue()
    done = command.learn(_cases(of, (), known), tuple(cases), runs, known)
    if out is not None:
        command.write_overlay(done, Path(out))
    document = command.learned_document(done)
    return Told("observe", document, document["runs"])


@takes(experiment=EXPERIMENT, settings=TEXT, logs=FILES, case=WHOLE, catalogue=CATALOGUE)
def compare(
    experiment: Given, *settings: str, logs: Files, case: int = 1, catalogue: Catalogue | None = None
) -> Told:  # fmt: skip
    """Hold a row of an experiment against logs of the real run: measured, predicted, interval. Raises `InputError`."""
    from simgpu.lab.logs import command

    known = catalogue or Catalogue()
    asked = _case(experiment, settings, case, known)
    found = command.compare(asked.scenario, asked.origins, known, _paths(logs))
    return Told("compare", command.compared_document(found), command.compared_rows(found))


@takes(cluster=TEXT, settings=TEXT, logs=FILES, collective=TEXT, gpus=WHOLE, page=PATH, catalogue=CATALOGUE)
def accept(
    cluster: str, *settings: str, logs: Files, collective: str | None = None, gpus: int | None = None,
    page: str | Path | None = None, catalogue: Catalogue | None = None,
) -> Told:  # fmt: skip
    """Hold a new cluster's first tests against what it should do; `page` is written for its vendor (.md or .html).

    `document["below"]` is true where something is below what it should be. Raises `InputError`.
    """
    from simgpu.lab.acceptance import command
    from simgpu.lab.acceptance.logs import Asked

    if page is not None:
        command.check_page(Path(page))
    done = command.accept(cluster, _paths(logs), settings, Asked(collective, gpus), catalogue or Catalogue())
    if page is not None:
        command.write_page(done, Path(page))
    document = command.document(done)
    return Told("accept", document, document["checks"])


@takes(trace=PATH, settings=TEXT, of=EXPERIMENT, case=WHOLE, out=PATH, catalogue=CATALOGUE)
def replay(
    trace: str | Path, *settings: str, of: Given | None = None, case: int = 1, out: str | Path | None = None,
    catalogue: Catalogue | None = None,
) -> Told:  # fmt: skip
    """Play a recorded step elsewhere, or at another scale: `settings` are keys of the experiment that it is of.

    simgpu's own traces say that experiment. `out` is a trace with both steps side by side. Raises `InputError`.
    """
    from simgpu.lab.replay import command

    file, known = Path(trace), catalogue or Catalogue()
    recorded, asked = command.read(file), command.Asked(settings=settings)
    done: command.Answer | command.ScaledAnswer
    said = recorded.info.get("experiment")
    if of is not None or command.is_scaled(asked, said is not None):
        done = command.run_scaled(recorded, file, known, *recorded_cases(of, said, case, known, file, asked))
    else:
        done = command.run(recorded, file, known, asked)
    if out is not None:
        command.write(done, Path(out))
    document = done.document()
    return Told("replay", document, document.get("parts") or document["operators"])


def recorded_cases(
    experiment: Given | None, said: str | None, number: int, catalogue: Catalogue, file: Path, asked: ReplayAsked
) -> tuple[tuple[Scenario, Origins], tuple[Scenario, Origins]]:  # fmt: skip
    """The case that a trace is of, as recorded and as asked for. Raises `InputError`."""
    from simgpu.documents import Text
    from simgpu.study.experiment.running import find_experiment, load_experiment

    for key in ("gpu", "cluster", "to_gpu"):
        if getattr(asked, key) is not None:
            problem = "the experiment names the machine; expected --to-cluster or --set cluster=NAME to ask for another"
            raise InputError(problem, key=f"--{key.replace('_', '-')}")
    if experiment is None and said is None:
        problem = "does not say what model its sizes are of; name the experiment that it is of with --of"
        raise InputError(problem, file=file)
    source = find_experiment(experiment, catalogue) if experiment is not None else Text(str(said), stem=file.name)
    settings = (*asked.settings, *([f"cluster={asked.to_cluster}"] if asked.to_cluster else []))
    found = []
    for changes in ((), settings):
        cases = load_experiment(source, changes, catalogue).cases
        if number > len(cases):
            raise InputError(f"{number}: the experiment has {len(cases)}", key="--case")
        found.append((cases[number - 1].scenario, cases[number - 1].origins))
    return found[0], found[1]


@takes(experiment=EXPERIMENT, settings=TEXT, case=WHOLE, catalogue=CATALOGUE)
def what_breaks(experiment: Given, *settings: str, case: int = 1, catalogue: Catalogue | None = None) -> Told:
    """Break every link, NIC, switch and GPU of a training job in turn, the worst first. Raises `InputError`."""
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif import failures

    known = catalogue or Catalogue()
    done = failures.what_breaks(open_experiment(experiment, settings, known), case, known)
    return Told("what_breaks", done.document(), done.rows)


@takes(experiment=EXPERIMENT, settings=TEXT, catalogue=CATALOGUE)
def share(experiment: Given, *settings: str, catalogue: Catalogue | None = None) -> Told:
    """Run the training jobs of a file, one a row, on one fabric at once. Raises `InputError`."""
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif import sharing

    known = catalogue or Catalogue()
    done = sharing.share(open_experiment(experiment, settings, known), known)
    return Told("share", done.document(), done.rows)


@takes(experiment=EXPERIMENT, settings=TEXT, case=WHOLE, free=TEXT, tries=WHOLE, catalogue=CATALOGUE)
def place(
    experiment: Given, *settings: str, case: int = 1, free: str = "", tries: int = 12,
    catalogue: Catalogue | None = None,
) -> Told:  # fmt: skip
    """Search where the nodes of a training job should stand; `free` lists nodes as Slurm does. Raises `InputError`."""
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif import placing

    known = catalogue or Catalogue()
    done = placing.place(open_experiment(experiment, settings, known), case, free, tries, known)
    return Told("place", done.document(), done.rows)


@takes(files=PATH, catalogue=CATALOGUE)
def check_claims(*files: str | Path, catalogue: Catalogue | None = None) -> Claims:
    """Hold published claims against physics: files, or folders of them; see `simgpu claims`. Raises `InputError`."""
    from simgpu.claims.check import check

    return check(list(files), catalogue or Catalogue())


@takes(file=TEXT, settings=TEXT, percentile=NUMBER, catalogue=CATALOGUE)
def capacity(
    file: str, *settings: str, percentile: float = 99.0, catalogue: Catalogue | None = None
) -> Capacities:  # fmt: skip
    """Find the largest load of each scenario that keeps its limits, and replicas for its own. Raises `InputError`."""
    from simgpu.study.capacity import command

    return command.capacity(file, settings, catalogue or Catalogue(), percentile, lambda *_: None)
