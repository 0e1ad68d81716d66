"""Short calls for what there is: models, GPUs, clusters and their timers, and what others' files describe.

`simgpu` itself offers them, as it does those of `simgpu.api`: `simgpu.load_model("llama-2-70b")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.arguments import FLAG, MAPPING, PATH, TEXT, WHOLE, instance, takes
from simgpu.catalog import Catalogue
from simgpu.errors import ArgumentError, InputError, nearest, shown
from simgpu.hardware.spec import GPUSpec
from simgpu.model.config import TransformerConfig
from simgpu.overrides import Override

if TYPE_CHECKING:
    from simgpu.hardware.cluster import Cluster
    from simgpu.hardware.topology import Topology
    from simgpu.lab.importing.command import Machine
    from simgpu.launching.importing import ImportedConfig
    from simgpu.model.imported.pieces import Imported
    from simgpu.timing.collectives import CollectiveTimes
    from simgpu.timing.timer import GPUTimer
    from simgpu.workload.operator_list import OperatorList


CATALOGUE = instance("a Catalogue", "simgpu.catalog.Catalogue")
CLUSTER = TEXT | instance("a Cluster", "simgpu.hardware.cluster.Cluster")
COLLECTIVE_OPTIONS = ("dtype", "algorithm", "protocol", "library")


@takes(name=TEXT, catalogue=CATALOGUE)
def load_model(name: str, catalogue: Catalogue | None = None) -> TransformerConfig:
    """Load a model: a name in the catalogue, or the path of a `config.json`."""
    return (catalogue or Catalogue()).model(name)


@takes(name=TEXT, catalogue=CATALOGUE)
def load_cluster(name: str, catalogue: Catalogue | None = None, **parameters: Any) -> Cluster:
    """Load a cluster or node of the catalogue.

    `parameters` replace its figures, with double underscores for dots: `gpu__memory__bandwidth="3 TB/s"`.
    """
    overrides = [Override(key.replace("__", "."), value, "load_cluster") for key, value in parameters.items()]
    return (catalogue or Catalogue()).cluster(name, overrides)


@takes(name=TEXT, catalogue=CATALOGUE)
def load_gpu(name: str, catalogue: Catalogue | None = None) -> GPUSpec:
    """Load a GPU of the catalogue."""
    spec = (catalogue or Catalogue()).spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    return spec


@takes(name=TEXT, catalogue=CATALOGUE, sustained=FLAG)
def load_timer(name: str, catalogue: Catalogue | None = None, sustained: bool = False) -> GPUTimer:
    """Load the kernel timer of a GPU, which takes arrays of shapes: `load_timer("h100-sxm").gemm(8192, 8192, 8192)`.

    Kernels of other classes are those of its parts `matrix`, `attention`, `experts` and `vector`, such as
    `load_timer("h100-sxm").vector.softmax(4096, 8192)`. `sustained` times a long run, throttled by its power limit,
    instead of a short burst.
    """
    from simgpu.timing.timer import GPUTimer

    known = catalogue or Catalogue()
    spec = load_gpu(name, known)
    return GPUTimer(spec, known.kernel_constants(spec), sustained)


@takes(cluster=CLUSTER, nodes=WHOLE, catalogue=CATALOGUE)
def topology_of(cluster: Cluster | str, nodes: int | None = None, catalogue: Catalogue | None = None) -> Topology:
    """The graph of a cluster's first `nodes` nodes (default: all): a networkx graph, and the routes that data takes.

    >>> import simgpu
    >>> simgpu.topology_of("dgx-h100").route(0, 1).via
    'gpu-link'
    """
    from simgpu.hardware.machine import topology_of as built
    from simgpu.timing.checks import check_sizes

    cluster = load_cluster(cluster, catalogue) if isinstance(cluster, str) else cluster
    check_sizes(1, int(cluster.spec.nodes.si), nodes=nodes)
    return built(cluster, nodes)


@takes(cluster=CLUSTER, kind=TEXT, gpus=WHOLE, catalogue=CATALOGUE)
def time_collective(
    cluster: Cluster | str,
    kind: str,
    sizes: Any,
    gpus: int | None = None,
    catalogue: Catalogue | None = None,
    **how: Any,
) -> CollectiveTimes:
    """Predict a collective over the first `gpus` GPUs for an array of sizes in bytes, as nccl-tests count them.

    Without `gpus` it runs over one node, over all nodes where a node has one GPU.
    `how` may hold `dtype`, `algorithm`, `protocol` and `library`, see `simgpu.timing.collectives.collective_time`.
    """
    from simgpu.timing.checks import check_dtypes, check_sizes
    from simgpu.timing.collectives import collective_time

    if (wrong := next((name for name in how if name not in COLLECTIVE_OPTIONS), None)) is not None:
        meant = nearest(wrong, COLLECTIVE_OPTIONS)
        raise ArgumentError(f"time_collective() got an unexpected keyword argument '{wrong}'{meant}")
    cluster = load_cluster(cluster, catalogue) if isinstance(cluster, str) else cluster
    check_sizes(0, sizes=sizes)
    check_sizes(1, cluster.gpu_count, gpus=gpus)
    check_dtypes(how.get("dtype", "bf16"))
    return collective_time(cluster, kind, range(gpus or cluster.usual_ranks), sizes, **how)


@takes(file=PATH, cluster=TEXT, settings=TEXT, model=TEXT, gpus=WHOLE, catalogue=CATALOGUE)
def import_config(
    file: str | Path, cluster: str, *settings: str, model: str | None = None, gpus: int | None = None,
    catalogue: Catalogue | None = None,
) -> ImportedConfig:  # fmt: skip
    """Make an experiment of a configuration, a launch script or a server's command line; see `simgpu import-config`.

    `.text` is the experiment file, `.keys` its scenario, `.ignored` and `.unknown` the names that have no key.
    """
    from simgpu.launching import importing

    given = importing.Given(cluster, model or "", gpus or 0, settings)
    return importing.import_config(str(file), given, catalogue or Catalogue())


@takes(file=PATH, dims=MAPPING, fused=FLAG, unknown=TEXT, stack=TEXT)
def import_onnx(
    file: str | Path, dims: Mapping[str, int] | None = None, fused: bool = False, unknown: str = "refuse",
    stack: str | None = None,
) -> OperatorList:  # fmt: skip
    """Read an ONNX file as a workload: `simgpu.simulate("h100-sxm", simgpu.import_onnx("model.onnx", {"batch": 8}))`.

    `dims` gives values of free dimensions; `fused` joins pointwise operators and attention as a compiler does;
    `unknown` "memory" takes operators that are not known as bound by memory. `stack` names the software that launches
    them ("pytorch", "compiled"), whose host the GPU may wait for; default: none is waited for.
    """
    from simgpu.model.imported.onnx_operators import read_onnx

    check_known("unknown", unknown, ("refuse", "memory"))
    _check_stack(stack)
    return _job_of(read_onnx(Path(file), dims, fused, unknown == "memory"), stack)


@takes(files=PATH, gpu=TEXT, network=TEXT, nodes=WHOLE, as_built=FLAG, catalogue=CATALOGUE)
def import_machine(
    *files: str | Path, gpu: str | None = None, network: str | None = None, nodes: int | None = None,
    as_built: bool = False, catalogue: Catalogue | None = None,
) -> Machine:  # fmt: skip
    """Read a machine from what it prints of itself: `simgpu.import_machine("topo.txt", "gpus.csv").cluster`.

    `files` are outputs of nvidia-smi, XML of NCCL or lstopo, ibnetdiscover, topology.conf, labels of Kubernetes nodes,
    topologies of ASTRA-sim or SimAI, or a cloud's name such as "p5.48xlarge". `gpu` and `network` say what they do not
    tell, `nodes` makes a cluster of them, `as_built` takes a machine with a fault as it was built. `.notes` say what
    was assumed, `.save(file)` writes it.
    """
    from simgpu.lab.importing.building import Options
    from simgpu.lab.importing.command import import_machine as imported

    return imported(
        [str(file) for file in files], Options(gpu, network, as_built, nodes=nodes), catalogue or Catalogue()
    )


@takes(fused=FLAG, unknown=TEXT, stack=TEXT)
def capture(
    module: Any, *inputs: Any, fused: bool = False, unknown: str = "refuse", stack: str | None = None
) -> OperatorList:
    """Capture a `torch.nn.Module` with its example `inputs` as a workload, see `import_onnx`. It moves to `meta`.

    >>> import simgpu, torch  # doctest: +SKIP
    >>> job = simgpu.capture(torch.nn.Linear(4096, 4096), torch.empty(64, 4096))  # doctest: +SKIP
    """
    from simgpu.model.imported.torch_capture import capture as captured

    check_known("unknown", unknown, ("refuse", "memory"))
    _check_stack(stack)
    return _job_of(captured(module, inputs, None, type(module).__name__, fused, unknown == "memory"), stack)


def _check_stack(name: str | None) -> None:
    """Raise `ArgumentError` for a stack that is not known."""
    from simgpu.workload.networks.stacks import stacks

    if name is not None:
        check_known("stack", name, tuple(stacks()))


def _job_of(found: Imported, stack: str | None) -> OperatorList:
    from simgpu.workload.operator_list import OperatorList

    return OperatorList(operators=[dict(entry) for entry in found.entries], stack=stack)


def check_known(key: str, name: str, names: Sequence[str]) -> None:
    """Raise `InputError` at `key` for a name that is not among `names`."""
    if name not in names:
        raise InputError(f"{shown(name)} is not known{nearest(name, names)}", key=key)
