"""Short calls for notebooks and scripts. `simgpu` itself offers them: `simgpu.load_model("llama-2-70b")`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.catalog import Catalogue, Override
from simgpu.hardware.spec import GPUSpec
from simgpu.model.config import TransformerConfig
from simgpu.result import Result

if TYPE_CHECKING:
    from simgpu.hardware.cluster import Cluster
    from simgpu.study.experiment import ExperimentResult


def load_model(name: str, catalogue: Catalogue | None = None) -> TransformerConfig:
    """A model of the catalogue, or the `config.json` at a path."""
    return (catalogue or Catalogue()).model(name)


def load_cluster(name: str, catalogue: Catalogue | None = None, **parameters: Any) -> Cluster:
    """A cluster or node of the catalogue.

    `parameters` replace figures of it, with double underscores for dots: `gpu__memory__bandwidth="3 TB/s"`.
    """
    overrides = [Override(key.replace("__", "."), value, "load_cluster") for key, value in parameters.items()]
    return (catalogue or Catalogue()).cluster(name, overrides)


def load_gpu(name: str, catalogue: Catalogue | None = None) -> GPUSpec:
    """A GPU of the catalogue."""
    spec = (catalogue or Catalogue()).spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    return spec


def run_experiment(file: str | Path, *settings: str, catalogue: Catalogue | None = None) -> ExperimentResult:
    """Run an experiment file (or an experiment of the catalogue); `settings` are 'key=value' changes."""
    from simgpu.study import experiment as study

    known = catalogue or Catalogue()
    return study.run_experiment(study.load_experiment(study.find_experiment(str(file), known), settings), known)


def save_trace(result: Result, file: str | Path) -> Path:
    """Write the timeline as a trace that opens in the Perfetto UI (ui.perfetto.dev) or chrome://tracing."""
    from simgpu.render.trace import write_trace

    return write_trace(result.execution, Path(file))


def plot_timeline(result: Result, file: str | Path | None = None, title: str = "") -> Any:
    """A matplotlib figure of the timeline, one row for each stream; written to `file` if given."""
    from simgpu.render.style import save
    from simgpu.render.timeline import timeline_figure

    figure = timeline_figure(result.execution, title)
    if file is not None:
        save(figure, Path(file))
    return figure
