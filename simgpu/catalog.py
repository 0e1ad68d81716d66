"""How the files of the catalogue become checked objects; `simgpu.catalog_files` says where they are.

Names are file names without their ending; what stands after an '@' in the name of a GPU derives another from it
(`h100-sxm@1g.10gb`, `h100-sxm@500W`; see `simgpu.hardware.derive`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from simgpu.arguments import PATH, TEXT, takes
from simgpu.catalog_files import CatalogueFiles
from simgpu.documents import Document, read_json
from simgpu.errors import InputError, members, nearest
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.cluster_spec import ClusterSpec
from simgpu.hardware.derive import MARK, base_name, derive, is_slice
from simgpu.hardware.faults import misfits
from simgpu.hardware.inherit import SHARED, Calibration, Flat, flat, inherit
from simgpu.hardware.instances import InstancesSpec, node_of
from simgpu.hardware.parts import ONE_NODE, check_sources, host_of, links_of
from simgpu.hardware.peaks import complete
from simgpu.hardware.power import Drawn, tensor_demand
from simgpu.hardware.spec import (
    ArchitectureSpec,
    CatalogueFile,
    GPUSpec,
    LinkSpec,
    NodeSpec,
)
from simgpu.memo import Region, remembered
from simgpu.model.config import TransformerConfig
from simgpu.model.derive import derive as derive_model
from simgpu.model.derive import read_as
from simgpu.model.families import parse_config
from simgpu.model.family_files import Families
from simgpu.model.family_files import built_in as families_built_in
from simgpu.model.networks.loading import assembled, is_path, named_file
from simgpu.model.networks.pipeline import Pipeline
from simgpu.model.published import ModelSource, without_format
from simgpu.model.quantised import SECTION
from simgpu.overlay import is_overlay, read_overlay
from simgpu.overrides import Override, blamer, by_root, of_derived_peak, overridden, settled
from simgpu.schema_errors import MISSING_TOO, Blame, validate

if TYPE_CHECKING:  # they need numpy
    from simgpu.workload.framework_files import Frameworks
    from simgpu.workload.frameworks import Framework
    from simgpu.workload.runtime_files import Runtimes
    from simgpu.workload.runtimes import Runtime

KINDS: dict[str, type[CatalogueFile]] = {
    "gpus": GPUSpec,
    "nodes": NodeSpec,
    "clusters": ClusterSpec,
    "links": LinkSpec,
    "architectures": ArchitectureSpec,
    "instances": InstancesSpec,
}


DERIVED = 1024
"""GPUs that are remembered with what was made of them; as many models."""

CLUSTERS = 256
"""Clusters that are remembered, each with the figures that were set by hand."""

TEMPLATES = ("gpus", "nodes", "clusters")
"""Kinds of files that `simgpu new` writes a template of."""


class Catalogue(CatalogueFiles):
    """Specifications by name."""

    @takes(folders=PATH)
    def __init__(self, *folders: str | Path) -> None:
        super().__init__(*folders)
        self._specs: dict[Path, CatalogueFile] = {}
        # of GPUs that are derived by name there are as many as users write
        self._walked: Region[str, tuple[GPUSpec | ArchitectureSpec, Flat]] = Region(DERIVED)
        self._calibrations: Region[tuple[str, tuple[str, ...]], tuple[GPUSpec, Calibration]] = Region(DERIVED)
        self._made: Region[str, GPUSpec] = Region(DERIVED)
        self._clusters: Region[tuple[Any, ...], Cluster] = Region(CLUSTERS)
        self._configs: Region[tuple[Path, str], TransformerConfig] = Region(DERIVED)

    def spec(
        self, kind: str, name: str, overrides: Sequence[Override] = (), blame: Blame | None = None
    ) -> CatalogueFile:
        """The checked specification of that name, with `overrides` applied.

        `blame` makes the error for an unknown name, where a file or a user asked for it.
        """
        file = self.find(kind, name)
        if file is None:
            known = base_name(name) if kind == "gpus" else name
            several = members(known, self.names(kind)) if kind == "gpus" else ""
            hint = (
                several
                or self.elsewhere(known)
                or nearest(known, self.names(kind), where=f"simgpu list {kind} names them")
            )
            problem = f"unknown {kind[:-1]} '{known}'{hint}"
            raise blame((), problem) if blame else InputError(problem)
        document = self.document(file)
        if file not in self._specs:
            hint = f" ('simgpu new {kind[:-1]}' writes a file with all of them, commented)" if kind in TEMPLATES else ""
            spec = validate(
                KINDS[kind],
                document.data,
                lambda path, problem: document.error(problem + (hint if MISSING_TOO in problem else ""), path),
            )
            if spec.name != file.stem:
                raise document.error(f"'{spec.name}' is not the name of the file, '{file.stem}'", ("name",))
            check_sources(spec, document)
            self._specs[file] = self._completed(spec) if isinstance(spec, GPUSpec) else spec
        spec, data = self._specs[file], document.data
        if isinstance(spec, GPUSpec) and name != spec.name:
            spec = self._derived(spec, name, blame)
            data = spec.model_dump(exclude_none=True) if overrides else data
        elif isinstance(spec, GPUSpec) and any(of_derived_peak(spec, data, override) for override in overrides):
            data = spec.model_dump(exclude_none=True)
        made = overridden(KINDS[kind], spec, data, overrides)
        if overrides and isinstance(made, GPUSpec) and isinstance(spec, GPUSpec):
            return settled(self._completed(made), spec, overrides, self.drawn(spec))
        return made

    def _completed(self, gpu: GPUSpec) -> GPUSpec:
        """`gpu` with the peaks that the rules of its architecture give."""
        for level in self.architectures(gpu):
            if level.peak_rules:
                return complete(gpu, level.peak_rules, level.name)
        return gpu

    def architectures(self, gpu: GPUSpec) -> Iterator[ArchitectureSpec]:
        """The architecture of a GPU, its parent, and so on."""
        level: GPUSpec | ArchitectureSpec = gpu
        seen: list[str] = []
        while (above := level.architecture if isinstance(level, GPUSpec) else level.parent) is not None:
            blame = self._blame(level, (), ("architecture" if isinstance(level, GPUSpec) else "parent",))
            if above in seen:
                raise blame((), f"'{above}' inherits from itself")
            family = self.spec("architectures", above, blame=blame)
            assert isinstance(family, ArchitectureSpec)
            seen.append(above)
            yield family
            level = family

    def _derived(self, gpu: GPUSpec, name: str, blame: Blame | None) -> GPUSpec:
        """The slice, or the capped or limited GPU, that `name` makes of `gpu`. Made once."""
        if name not in self._made:
            try:
                self._made[name] = derive(gpu, name.split(MARK)[1:], self.drawn(gpu))
            except InputError as refused:
                raise blame((), refused.problem) if blame else refused from None
        return self._made[name]

    def drawn(self, gpu: GPUSpec) -> Drawn:
        """What busy tensor cores of a GPU would draw at its highest clock, and the idle board, over its power limit."""
        constants = self.kernel_constants(gpu)
        known = constants.group("gemm")
        busy = tensor_demand(gpu, known["energy_per_flop"], known["compute_fraction"])
        return Drawn(busy, constants.group("power")["idle"])

    @takes(name=TEXT)
    def cluster(self, name: str, overrides: Sequence[Override] = ()) -> Cluster:
        """A cluster, or a single node as a cluster of one, or a GPU alone in a host, with everything it refers to.

        A file, such as `mine.yaml`, names one of these and what logs say of it (`simgpu.overlay`). `overrides` have
        keys that begin with `cluster.`, `node.`, `gpu.` or `link.NAME.`.
        """
        if is_overlay(name) and not (self.find("clusters", name) or self.find("nodes", name)):
            overlay, learned = read_overlay(name)
            return self.cluster(overlay.machine, [*learned, *overrides])
        if not all(isinstance(one.value, (str, int, float, list, dict, NoneType)) for one in overrides):
            return self._cluster(name, overrides)
        key = (name, *((one.key, repr(one.value), one.source, one.at) for one in overrides))
        return self._clusters.known(key, lambda: self._cluster(name, overrides))

    def _cluster(self, name: str, overrides: Sequence[Override]) -> Cluster:
        """`cluster`, of the files of the catalogue."""
        of = by_root(overrides)
        spec = self._cluster_spec(name, of)
        alone = spec.node == name and not (self.find("nodes", name) or name in self.instances)
        if alone and (wrong := [*of.get("cluster", ()), *of.get("node", ())]):
            raise wrong[0].error(f"'{name}' is a single GPU; name a node to change its host")
        if alone:
            node = host_of(name)
        else:
            blame = self._blame(spec, of.get("cluster", ()), ("node",))
            node = self._node(name, spec.node, of.get("node", ()), blame)
        assert isinstance(node, NodeSpec)
        gpu = self.spec("gpus", node.gpu, of.get("gpu", ()), self._blame(node, of.get("node", ()), ("gpu",)))
        assert isinstance(gpu, GPUSpec)
        if is_slice(gpu):  # a slice has no links of its own
            node = node.model_copy(update={"nvlink": None})
        self._check_wiring(spec, node, gpu, of)
        links: dict[str, LinkSpec] = {}
        for owner, root, path, link in links_of(spec, node, gpu):
            if link not in links:
                blame = self._blame(owner, of.get(root, ()), path)
                loaded = self.spec("links", link, of.get(f"link.{link}", ()), blame)
                assert isinstance(loaded, LinkSpec)
                links[link] = loaded
        for root, unused in of.items():
            if root.startswith("link.") and root.removeprefix("link.") not in links:
                raise unused[0].error(f"no such link in '{name}'{nearest(root.removeprefix('link.'), links)}")
        return Cluster(spec, node, gpu, links, self.kernel_constants(gpu))

    def _cluster_spec(self, name: str, of: Mapping[str, Sequence[Override]]) -> ClusterSpec:
        """The file of a cluster; of a node or a GPU, one that holds it alone."""
        if self.find("clusters", name):
            spec = self.spec("clusters", name, of.get("cluster", ()))
        elif self.find("nodes", name):
            for override in of.get("cluster", ()):
                raise override.error(f"'{name}' is a single node; name a cluster to use several")
            spec = ClusterSpec.model_validate({"name": name, "title": name, "node": name, "nodes": ONE_NODE})
        elif name in self.instances or self.find("gpus", name.split(MARK)[0]):
            spec = ClusterSpec.model_validate({"name": name, "title": name, "node": name, "nodes": ONE_NODE})
        else:
            known = self.names("clusters") + self.names("nodes") + self.names("gpus") + list(self.instances)
            where = "simgpu list clusters, nodes and gpus name them"
            meant = members(name, self.names("gpus")) or self.elsewhere(name) or nearest(name, known, where=where)
            raise InputError(f"unknown cluster, node or GPU '{name}'{meant}")
        assert isinstance(spec, ClusterSpec)
        return spec

    def _node(self, cluster: str, name: str, overrides: Sequence[Override], blame: Blame) -> NodeSpec:
        """The node of a cluster: one of the catalogue, a machine of a cloud, or the file of that name beside it."""
        if not self.find("nodes", name) and name in self.instances:
            found = self.instance(name)
            node = overridden(NodeSpec, found, found.model_dump(exclude_none=True), overrides)
        else:
            node = self.spec("nodes", self._beside(cluster, name), overrides, blame)
        assert isinstance(node, NodeSpec)
        return node

    def _beside(self, cluster: str, node: str) -> str:
        """The node of a cluster: of one that is named by its path, also the file of that name beside it."""
        if not is_overlay(cluster) or self.find("nodes", node):
            return node
        beside = Path(cluster).parent / f"{node}.yaml"
        return str(beside) if os.path.isfile(beside) else node

    @cached_property
    def instances(self) -> dict[str, InstancesSpec]:
        """The cloud of each machine that one rents by a name, such as p5.48xlarge."""
        found: dict[str, InstancesSpec] = {}
        for name in self.names("instances"):
            cloud = self.spec("instances", name)
            assert isinstance(cloud, InstancesSpec)
            found |= dict.fromkeys(cloud.instances, cloud)
        return found

    def instance(self, name: str) -> NodeSpec:
        """The node that a machine of a cloud is, by one of the names of `instances`."""
        cloud = self.instances[name]
        entry = cloud.instances[name]
        node = self.spec("nodes", entry.node)
        assert isinstance(node, NodeSpec)
        return node_of(name, entry, cloud, node)

    def _check_wiring(self, spec: ClusterSpec, node: NodeSpec, gpu: GPUSpec, of: dict[str, list[Override]]) -> None:
        """Check that the files of a cluster fit together, so that every pair of GPUs has a route."""
        if spec.nodes.si > 1 and spec.fabric is None:
            raise self._blame(spec, of.get("cluster", ()), ("nodes",))((), "several nodes need a fabric between them")
        if spec.fabric is not None and node.nic_count == 0:
            problem = f"'{node.name}' has no nic to join the fabric with"
            raise self._blame(spec, of.get("cluster", ()), ("node",))((), problem)
        for path, problem in misfits(spec, node, gpu):
            raise self._blame(spec, of.get("cluster", ()), path)((), problem)
        blame = self._blame(node, of.get("node", ()), ("nvlink",))
        if node.nvlink is not None and gpu.nvlink is None:
            raise blame((), f"'{gpu.name}' has no links of its own to wire")
        if node.nvlink is not None and gpu.nvlink is not None:
            wired = [node.nvlink.lanes_of(i) for i in range(node.gpu_count)]
            if max(wired) > gpu.nvlink.lanes.si:
                problem = f"wires {max(wired):g} links to GPU {wired.index(max(wired))}"
                raise blame(("links",), f"{problem}; '{gpu.name}' has {gpu.nvlink.lanes.si:g}")
        joined = node.nvlink is not None and node.nvlink.topology in ("nvswitch", "full-mesh")
        if sum(socket.count for socket in node.sockets) > 1 and node.inter_socket is None and not joined:
            raise self._blame(node, (), ("sockets",))((), "several sockets need an inter_socket link between them")

    def kernel_constants(self, gpu: GPUSpec, without: Sequence[str] = ()) -> Calibration:
        """Constants of a GPU after inheritance: its own, its architecture's, the generic ones.

        Levels named in `without` (the GPU's own name, an architecture's) are passed over, to see what a GPU that
        nobody measured would get.
        """
        known = self._calibrations.get((gpu.name, tuple(without)))
        if known is not None and known[0] is gpu:
            return known[1]
        levels: list[tuple[str, Flat, Mapping[str, str]]] = []
        above: Iterator[GPUSpec | ArchitectureSpec] = self.architectures(gpu)
        for level in chain([gpu], above):
            passed_over = {level.name, base_name(level.name)} & set(without)
            levels.append((level.name, () if passed_over else self._flat(level), level.sources))
        calibration = inherit(levels, gpu.architecture)
        missing = [key for key in SHARED if (key,) not in calibration.given]
        if missing:
            raise InputError(f"no architecture above '{gpu.name}' gives {', '.join(missing)}")
        self._calibrations[gpu.name, tuple(without)] = (gpu, calibration)
        return calibration

    def _flat(self, level: GPUSpec | ArchitectureSpec) -> Flat:
        """Constants of a GPU or architecture by path; a file's are walked once."""
        known = self._walked.get(level.name)
        if known is None or known[0] is not level:
            known = self._walked[level.name] = (level, flat(level.kernel))
        return known[1]

    @takes(name=TEXT)
    def framework(self, name: str) -> Framework:
        """A training framework by name; its base is looked for in the same folders. Raises `InputError`."""
        return self._frameworks.of(name)

    @cached_property
    def _frameworks(self) -> Frameworks:
        from simgpu.workload.framework_files import Frameworks, built_in

        files, shipped = self._files("frameworks"), built_in()
        return shipped if files == shipped.files else Frameworks(files)

    @takes(name=TEXT)
    def runtime(self, name: str) -> Runtime:
        """A runtime by name, `vllm` or `vllm@0.14`; its base is looked for in the same folders.

        Raises `InputError`.
        """
        return self.runtimes.of(name)

    @cached_property
    def runtimes(self) -> Runtimes:
        """All runtimes, by engine and version."""
        from simgpu.workload.framework_files import built_in
        from simgpu.workload.runtime_files import Runtimes, shipped

        files, known = self._files("runtimes"), shipped()
        same = files == known.files and self._frameworks is built_in()
        return known if same else Runtimes(files, self._frameworks)

    @takes(name=TEXT)
    def model(self, name: str) -> TransformerConfig:
        """A model by name, by its id on Hugging Face, or by the path of its `config.json` or that file's folder.

        A suffix after '@' changes the shape (`llama-3.1-8b@layers=12`); `@as=FAMILY` has a file of an architecture that
        is not known read as one of that family.
        """
        if MARK in name and not os.path.exists(name):
            base, _, changes = name.partition(MARK)
            family, changes = read_as(changes)
            config = self._config(base, family) if family else self.model(base)
            return derive_model(config, changes) if changes else config
        return self._config(name)

    @cached_property
    def families(self) -> Families:
        """The families of models that files describe."""
        files, known = self._files("families"), families_built_in()
        return known if files == known.files else Families(files)

    def _config(self, name: str, family: str = "") -> TransformerConfig:
        """The shape in a file, read as `family` says or as the file does."""
        file = self.find("models", name) or self.find("models", self.published(name) or name)
        if file is None:
            path = os.path.join(name, "config.json") if os.path.isdir(name) else name
            if not os.path.isfile(path):
                if os.path.isdir(name):
                    raise InputError(f"folder '{name}' holds no config.json")
                if path.endswith(".json") or os.sep in path:
                    raise InputError(f"'{name}': no such file")
                if self.find("networks", name):
                    raise InputError(f"'{name}' is a network of stages; a workload of kind network runs it")
                where = "simgpu list models names them"
                known = self.elsewhere(name) or nearest(name, self.names("models"), where=where)
                raise InputError(f"unknown model '{name}'{known}")
            file = Path(path)
        return self._configs.known((file, family), lambda: self._parsed(file, family))

    def _parsed(self, file: Path, family: str) -> TransformerConfig:
        """The shape in a file that is there."""
        title = file.stem if file.stem != "config" else file.resolve().parent.name
        return parse_config(title, with_quantisation(self.document(file), file), self.families, family)

    @takes(name=TEXT)
    def network(self, name: str) -> Pipeline:
        """A network of stages by name, by its id on Hugging Face, or by the path of its file.

        Configurations of its stages are files of `models/components/`, or paths beside its own file.
        """
        file = self.find("networks", name) or self.find("networks", self._pipelines.get(name.lower(), ""))
        if file is None and is_path(name) and not self.find("models", name):
            file = named_file(name)
        if file is None:
            language = bool(self.find("models", name))
            said = f"'{name}' is a language model; a network of stages is one of models/*.yaml"
            raise InputError(said if language else f"unknown network '{name}'{nearest(name, self.names('networks'))}")
        return assembled(file, self.document, self._files("components"))

    @cached_property
    def _pipelines(self) -> dict[str, str]:
        """Names of networks by the ids they have on Hugging Face, in small letters."""
        found: dict[str, str] = {}
        for name in self.names("networks"):
            ids = self.document(self._files("networks")[name]).data.get("huggingface")
            found |= {str(one).lower(): name for one in ids} if isinstance(ids, list) else {}
        return found

    def published(self, name: str) -> str | None:
        """The catalogue's name of a model by its id on Hugging Face; None for one that it does not have.

        Quantised weights are published under ids of their own, often by others ('nvidia/Qwen3-8B-NVFP4'): those that
        add the name of a format to the id of a model are that model.
        """
        known, owned = self._published, name.lower()
        if owned in known:
            return known[owned]
        plain = without_format(owned)
        if plain == owned:
            return None
        bare = {one.rpartition("/")[2]: model for one, model in known.items()}
        return known.get(plain) or bare.get(plain.rpartition("/")[2])

    @cached_property
    def _published(self) -> dict[str, str]:
        """Names of models by the ids they have on Hugging Face, in small letters."""
        return {one.lower(): name for name in self.names("models") for one in self.model_source(name).huggingface}

    def model_source(self, name: str) -> ModelSource:
        """The entry of a model in `models/SOURCES.yaml`."""
        file = self.find("models", name)
        return self._source(file.parent if file else None, name)

    def _source(self, folder: Path | None, name: str) -> ModelSource:
        """The entry of a name in the `SOURCES.yaml` of a folder; nothing where there is none."""
        sources = folder / "SOURCES.yaml" if folder else None
        if sources is None or not sources.is_file():
            return ModelSource()
        document = self.document(sources)
        given = document.data.get(name, {})
        return validate(ModelSource, given, lambda path, problem: document.error(problem, (name, *path)))

    def component_source(self, name: str) -> ModelSource:
        """The entry of a component of networks in the `SOURCES.yaml` of the models' folder."""
        file = self.find("components", name)
        return self._source(file.parent.parent if file else None, name)

    def _blame(self, spec: CatalogueFile, overrides: Sequence[Override], path: tuple[Any, ...]) -> Blame:
        """Errors about a value of `spec`: where it was overridden, else where its file says it."""
        for override in overrides:
            if override.path == [str(part) for part in path]:
                return blamer(override)
        kind = next(kind for kind, known in KINDS.items() if isinstance(spec, known))
        file = self.find(kind, spec.name)
        if file is None:  # a node that stands for a cluster of one
            return lambda _, problem: InputError(problem)
        document = self.document(file)
        return lambda below, problem: document.error(problem, (*path, *below))


def with_quantisation(document: Document, file: Path) -> Document:
    """The data of a `config.json` with the `hf_quant_config.json` of NVIDIA's ModelOpt beside it, where it has one."""
    beside = file.with_name("hf_quant_config.json")
    if file.name != "config.json" or SECTION in document.data or not beside.is_file():
        return document
    stored = read_json(beside).data.get("quantization")
    if not isinstance(stored, dict):
        return document
    return document.part({**document.data, SECTION: {"quant_method": "modelopt", **stored}})


def usual_catalogue() -> Catalogue:
    """The default catalogue: that of the environment, or that which comes with simgpu, made once."""
    return Catalogue() if os.environ.get("SIMGPU_CATALOG") else _shipped_catalogue()


@remembered(1)
def _shipped_catalogue() -> Catalogue:
    return Catalogue()
