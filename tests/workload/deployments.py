"""A deployment on a node of the catalogue, for tests of inference."""

from simgpu import Catalogue, Plan
from simgpu.plan.precision import precision_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.runtime_files import runtime

CATALOGUE = Catalogue()
NODE = CATALOGUE.cluster("dgx-h100")


def deployed(model="llama-3.1-8b", cluster=NODE, plan=None, precision="bf16", engine="vllm", **more):
    return Deployment(CATALOGUE.model(model), cluster, plan or Plan(), precision_of(precision), runtime(engine), **more)
