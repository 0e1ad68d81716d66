"""Images in a prompt: the tokens that they become, and the time of the vision tower before the prefill.

The tower runs in 16 bits, whole on every rank. The ranks of a tensor-parallel group share the images and gather what
they made (vLLM, `mm_encoder_tp_mode` data). It runs once for each prompt; images of a cached prefix are seen again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Protocol

from simgpu.errors import InputError
from simgpu.model.config import TransformerConfig
from simgpu.model.networks.vision import tower_graph
from simgpu.model.operators import Communicate
from simgpu.model.vision import Tower
from simgpu.plan.program import Collective, Step
from simgpu.workload.blocks import run_block
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.jobs import Images

KEY = "workload.images"


class Sees(Protocol):
    """A job whose prompts may have images."""

    @property
    def images(self) -> Images | None:
        """Images of each prompt."""


@dataclass(frozen=True)
class Pictures:
    """The images of one prompt, for a tower."""

    tower: Tower
    images: Images

    @property
    def tokens(self) -> int:
        """Tokens that they take in the prompt."""
        return self.images.count * self.tower.tokens(self.images.height, self.images.width)


def pictures_of(job: Sees, model: TransformerConfig | None) -> Pictures | None:
    """The images of a job's prompts. Raises `InputError` (key only) for a model that sees none."""
    images = job.images
    if images is None or model is None:
        return None
    if model.vision is None:
        if "vision" in model.left_out:
            problem = f"simgpu has no rule for images of '{model.name}', or its vision_config lacks keys"
            raise InputError(f"{problem}; count their tokens in prompt", key=KEY)
        raise InputError(f"'{model.name}' is a text model, it sees no images; leave this key out", key=KEY)
    return Pictures(model.vision, images)


def look(deployment: Deployment, pictures: Pictures) -> StepTime:
    """The step of the tower for the images of one prompt, in the first pipeline stage."""
    run, tower, images = deployment.runtime, pictures.tower, pictures.images
    if run.style == "ggml":
        raise InputError(f"vision towers in {run.name} are not modelled; expected another runtime", key=KEY)
    each, rows, columns = tower.pictures(images.height, images.width)
    ranks = deployment.plan.tp
    graph = tower_graph(tower, ceil(each * images.count / ranks), rows, columns, deployment.dtype)
    blocks = []
    for segment in graph.segments:
        steps: list[Step] = [op for op in segment.operators if not isinstance(op, Communicate)]
        blocks.append(
            (run_block(segment.name, steps, deployment.kernels, deployment.links, run.launch_s), segment.repeat)
        )
    if ranks > 1:
        gathered = Collective("vision_tokens", "all_gather", "tp", 2.0 * pictures.tokens * tower.out)
        blocks.append((run_block("vision tokens", [gathered], deployment.kernels, deployment.links), 1))
    return StepTime((), (tuple(blocks), *[()] * (deployment.plan.pp - 1)), 0.0, 0.0)
