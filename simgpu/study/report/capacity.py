"""Capacity: models in precisions on kinds of GPU, how many GPUs, with how much context for how many users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.derive import base_name, is_slice
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import PRECISIONS, is_gguf, precision_of
from simgpu.plan.serving_fit import DEGREES, misfit_text, smallest
from simgpu.plan.serving_memory import Served, cache_bytes, fullest, serving_memory
from simgpu.render.notes import context_notes
from simgpu.tabular import Tabular
from simgpu.version import __version__
from simgpu.workload.inference.deploying import chosen_precision, deploy
from simgpu.workload.inference.jobs import Inference, RuntimeName
from simgpu.workload.options import RunOptions
from simgpu.workload.runtimes import Runtime

GPUS = ("l4", "rtx-4090", "l40s", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x")
"""Kinds of GPU that are tried where none is named: what clouds rent most, one of each size of memory."""

NARROWING = ("bf16", "fp8", "int4", "q4_k_m")
"""Precisions that are tried where none is named, beside that of the checkpoint."""

CONTEXT = 8192
"""Tokens of each user where none are named, or as many as the model can take."""

COLUMNS = {
    "model": "name in the catalogue",
    "precision": "how weights are stored (docs/inference.md)",
    "gpu": "name in the catalogue",
    "gpu_memory_bytes": "memory of one GPU by its datasheet",
    "converted": "true if the GPU lacks units for the precision, so that weights are converted on the way",
    "runtime": "the runtime whose reserved memory is subtracted",
    "context": "tokens that each user's cache holds",
    "users": "sequences that must fit at once",
    "fits_one": "true if one GPU holds all of it",
    "needed_bytes": "memory that one GPU would need",
    "usable_bytes": "memory of one GPU that the runtime may use",
    "short_by_bytes": "memory that one GPU lacks; 0: it fits",
    "smallest_gpus": "fewest GPUs that hold it, split by tensors (llama.cpp: by layers); 0: more than 32",
    "split": "the plan of that split, as in an experiment file",
    "weights_bytes": "weights of the model, all GPUs together",
    "weights_bytes_per_gpu": "weights on the fullest rank",
    "kv_bytes_per_token": "cache of a token of one user, on average over the context",
    "most_users": "users at that context that the smallest number of GPUs holds",
    "longest_context": "tokens that each of the users can have there, at most those of the model",
    "helps": "what would make it fit one GPU",
}
"""Keys of a row and what they mean. SI units stand in the names."""


@dataclass(frozen=True)
class CapacityQuery:
    """The question of `simgpu fit`: models, GPUs, precisions, users. Empty: the choices of this module."""

    gpus: Sequence[str] = ()
    precisions: Sequence[str] = ()
    context: int | None = None
    users: int = 1
    runtime: RuntimeName | None = None
    kv_cache: str | None = None


@dataclass(frozen=True, repr=False)
class Fitted(Tabular):
    """Rows for every model, precision and GPU, as `COLUMNS` names them, and what was left out."""

    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The document that `simgpu fit --format json` prints."""
        return {"simgpu_version": __version__, "rows": list(self.rows), "notes": list(self.notes)}


MOST = 10**9
"""Largest number of users and of tokens that is asked for."""


def fit(catalogue: Catalogue, models: Sequence[str], query: CapacityQuery) -> Fitted:
    """Find the fewest GPUs of each kind that hold each model.

    Raises `InputError` for names that are not known and contexts that a model cannot take.
    """
    if not models:
        raise InputError("no model", key="MODEL")
    _check(catalogue, query)
    sizes = {name: _capacity(catalogue, name) for name in dict.fromkeys(query.gpus or GPUS)}
    gpus = sizes if query.gpus else sorted(sizes, key=lambda name: (sizes[name], name))
    runtime = catalogue.runtime(query.runtime) if query.runtime else None
    single = len(models) * len(sizes) == 1
    rows: list[dict[str, Any]] = []
    refused: dict[str, None] = {}
    for model in dict.fromkeys(models):
        config = catalogue.model(model)
        for precision, gpu in product(query.precisions or _precisions(config, runtime), gpus):
            try:
                rows.append(_row(catalogue, config, model, precision, gpu, sizes, query))
            except InputError as error:
                if error.key != "workload.precision" or single or _never(catalogue, query, precision):
                    raise _by_option(error) from None
                refused[error.problem] = None
    if not rows:
        raise InputError(f"nothing is left to fit: {next(iter(refused))}", key="--precision")
    return Fitted(tuple(rows), tuple(_notes(catalogue, models, query, rows, refused)))


def _check(catalogue: Catalogue, query: CapacityQuery) -> None:
    """Raise `InputError` for an option that is not known or out of range."""
    for name in query.precisions:
        precision_of(name, "--precision")
    if query.runtime is not None:
        try:
            catalogue.runtime(query.runtime)
        except InputError as error:
            raise InputError(error.problem, key="--runtime") from None
    for key, value in (("--users", query.users), ("--context", 1 if query.context is None else query.context)):
        if not 1 <= value <= MOST:
            expected = "1 or more" if value < 1 else f"at most {MOST:,}"
            raise InputError(f"{shown(value)}: expected {expected}", key=key)


def _notes(
    catalogue: Catalogue,
    models: Sequence[str],
    query: CapacityQuery,
    rows: Sequence[Mapping[str, Any]],
    refused: Iterable[str],
) -> Iterator[str]:
    """Notes below the table: converted weights, contexts that are too long, precisions that were left out."""
    converted = [f"{row['precision']} on {row['gpu']}" for row in rows if row["converted"]]
    if converted:
        yield f"GPU lacks the type, so kernels convert the weights: {'; '.join(dict.fromkeys(converted))}"
    published = {name: catalogue.model(name).max_tokens for name in models}
    yield from context_notes({n: (query.context, most) for n, most in published.items() if (query.context or 0) > most})
    yield from (f"left out: {problem}" for problem in refused)


def _never(catalogue: Catalogue, query: CapacityQuery, precision: str) -> bool:
    """True if a runtime that was named has the precision on no GPU at all."""
    if query.runtime is None:
        return False
    try:
        chosen_precision(precision, "bf16", catalogue.runtime(query.runtime))
    except InputError:
        return True
    return False


def _by_option(error: InputError) -> InputError:
    """The error about a key of a file, as one about the option that stands for it."""
    options = {"workload.precision": "--precision", "workload.prompt": "--context", "dtype": "--precision"}
    return InputError(error.problem, file=error.file, line=error.line, key=options.get(error.key or "", error.key))


def _precisions(config: TransformerConfig, run: Runtime | None) -> list[str]:
    """The usual precisions that a runtime has, that of the checkpoint first."""
    names = [name for name in dict.fromkeys((config.published, *NARROWING)) if name]
    if run is None:
        return names
    if run.precisions == "gguf":
        own = [config.published] if config.published in run.block_formats else []
        return [*own, "fp16", *(name for name in PRECISIONS if is_gguf(PRECISIONS[name]))]
    return [name for name in names if run.takes(precision_of(name))]


def _capacity(catalogue: Catalogue, name: str) -> float:
    known = catalogue.names("gpus")
    if base_name(name) not in known:
        hint = catalogue.elsewhere(name) or nearest(name, known, where="simgpu list gpus names them")
        raise InputError(f"unknown GPU {shown(name)}{hint}", key="--gpu")
    return catalogue.cluster(name).gpu.memory.capacity.si


def _reaches_no_other(catalogue: Catalogue, gpu: str) -> bool:
    return is_slice(catalogue.cluster(gpu).gpu)


def _row(
    catalogue: Catalogue, config: TransformerConfig, model: str, precision: str, gpu: str,
    sizes: Mapping[str, float], query: CapacityQuery,
) -> dict[str, Any]:  # fmt: skip
    """The row of one model in one precision on one kind of GPU."""
    engine = query.runtime or ("llama.cpp" if is_gguf(precision_of(precision)) else "vllm")
    context = query.context or min(CONTEXT, config.max_tokens)
    if not config.takes(context):
        problem = f"{context:,} tokens is more than the {config.max_tokens:,} learned positions of '{config.name}'"
        raise InputError(problem, key="--context")
    served = _served(catalogue, config, precision, gpu, engine, query.kv_cache)
    capacity = sizes[gpu]
    on_one_gpu = fullest(serving_memory(served, query.users, context, capacity))
    most = (
        1 if _reaches_no_other(catalogue, gpu) else DEGREES[-1]
    )  # slices of a GPU reach no other (NVIDIA MIG user guide: no P2P, no NCCL)
    smallest_fit = smallest(served, capacity, context, query.users, most)
    split = fullest(serving_memory(smallest_fit.served, query.users, context, capacity))
    others = [(name, size) for name, size in sizes.items() if size > capacity]
    help_text = misfit_text(served, query.users, context, capacity, 1, others, most)
    return {
        "model": model,
        "precision": precision,
        "gpu": gpu,
        "gpu_memory_bytes": capacity,
        "converted": served.precision.converted,
        "runtime": catalogue.runtime(engine).name,
        "context": context,
        "users": query.users,
        "fits_one": on_one_gpu.fits,
        "needed_bytes": on_one_gpu.total,
        "usable_bytes": on_one_gpu.budget,
        "short_by_bytes": on_one_gpu.short_by,
        "smallest_gpus": smallest_fit.gpus or 0,
        "split": smallest_fit.split if smallest_fit.gpus else "",
        "weights_bytes": on_one_gpu.weights,
        "weights_bytes_per_gpu": split.weights,
        "kv_bytes_per_token": cache_bytes(served, context) / context,
        "most_users": smallest_fit.sequences,
        "longest_context": smallest_fit.longest,
        "helps": "" if on_one_gpu.fits else help_text,
    }


def _served(
    catalogue: Catalogue, config: TransformerConfig, precision: str, gpu: str, engine: str, kv_cache: str | None
) -> Served:
    """A deployment on one GPU, for the memory that it sets aside beside weights and cache."""
    plain = not precision_of(precision).weights
    job = Inference(prompt=1, output=1, runtime=engine, precision=precision, kv_cache=kv_cache)
    problem = ""
    for dtype in (precision,) if plain else ("bf16", "fp16", "fp32"):  # activations in what the GPU has
        try:
            run = catalogue.runtime(engine)
            return deploy(catalogue.cluster(gpu), job, config, Plan(), run, RunOptions(dtype)).served
        except InputError as error:
            if error.key != "dtype":
                raise
            problem = problem or error.problem
    raise InputError(problem, key="workload.precision")


def show(done: Fitted, style: str, out: IO[str]) -> None:
    """Print what fits as a table, or everything as JSON or CSV."""
    from simgpu.render.data import print_csv, print_json

    if style == "json":
        print_json(done.document(), out)
    elif style == "csv":
        print_csv(done.rows, out)
    else:
        from simgpu.render.fitting import print_fits

        print_fits(done.rows, done.notes, out)


def write(done: Fitted, folder: Path, plots: bool = True, formats: Sequence[str] = ()) -> list[Path]:
    """Write data and picture into `folder`; returns the files. The picture is drawn first."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.files import save, written_whole
    from simgpu.render.fitting import fit_figure

    drawn = fit_figure(done.rows) if plots else None
    with written_whole(folder / "fit.json") as stream:
        print_json(done.document(), stream)
    with written_whole(folder / "fit.csv") as stream:
        print_csv(done.rows, stream)
    pictures = [folder / f"fit.{kind}" for kind in dict.fromkeys(formats or ("png", "svg"))]
    return [folder / "fit.json", folder / "fit.csv", *(save(drawn, *pictures) if drawn is not None else [])]
