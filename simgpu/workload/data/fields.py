"""The data pipeline of a job of training: what a user asks of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from simgpu.workload.fields import Strict, positive

Rate: Any = Annotated[float, positive("B/s")]
Seconds: Any = Annotated[float, positive("s")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Data(Strict):
    """Samples that are read from storage and decoded by workers while the GPUs compute the step before.

    What is not given is as the catalogue says (simgpu/workload/data/catalogue.yaml).
    """

    samples: str | None = None
    """imagenet, coco, text, tokens, speech, clips; default: by what the network takes in."""
    storage: str = "local_nvme"
    """host_memory, local_nvme, network_file_system, object_store."""
    layout: Literal["files", "shards"] = "files"
    """Each sample a file or an object of its own, or many in a large one that is read in a row."""
    decoder: str | None = None
    """Who decodes; default: as the samples say."""
    workers: Annotated[int, Field(strict=True, ge=0, le=4096)] = 8
    """Processes for each GPU that read and decode; 0: the training process itself, between two steps."""
    cores: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] | None = None
    """CPU cores for each GPU that workers share; default: one for each."""
    prefetch: Annotated[int, Field(strict=True, ge=0, le=1024)] = 2
    """Batches that a worker makes ahead; 0: none, a step waits for its batch from the start."""
    cached: Share = 0.0
    """Share of the samples that lie in host memory already: those of the page cache after the first epoch."""
    bandwidth: Rate | None = None
    """Of the storage, for each node; default: as the node's file says of its drives, or the catalogue."""
    sample_bytes: Annotated[float, positive("B")] | None = None
    """Of a sample, or of a token of text."""
    decode: Seconds | None = None
    """Of a core for a sample, or for a token of text."""
