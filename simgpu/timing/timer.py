"""Times kernels of one GPU: looks up its figures and constants and calls the model of the class.

The models (`simgpu.timing.gemm`, `attention`, `vector`, `moe` ...) are pure functions over numpy arrays that take a
shape, the datasheet (`Device`) and the constants of a library; the parts of a timer are the only places that know where
those come from.
"""

from __future__ import annotations

import math

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import GPUSpec
from simgpu.timing.attention_timer import AttentionTimer
from simgpu.timing.device import device_of
from simgpu.timing.expert_timer import ExpertTimer
from simgpu.timing.gemm_libraries import GemmLibraries
from simgpu.timing.matrix_timer import MatrixTimer
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.picked import PickedTimer
from simgpu.timing.scan_timer import ScanTimer
from simgpu.timing.vector_timer import VectorTimer


class GPUTimer:
    """Kernel times of a GPU with its constants, by class.

    Classes: `matrix`, `attention`, `experts`, `scans`, `picked` (attention over picked keys), `vector`.

    Parameters
    ----------
    gpu : the GPU of the catalogue
    constants : what is known of its kernels, inherited from its architecture where not given
    sustained : whether kernels are part of a long run, throttled in full, or of a short burst as benchmarks time them
    training : whether they run inside training steps, where clocks are lower than in a loop of one kernel

    Examples
    --------
    >>> import simgpu
    >>> timer = simgpu.load_timer("h100-sxm")
    >>> timer.vector.softmax([1, 64, 4096], 8192).seconds.shape
    (3,)
    >>> timer.gemm(4096, 8192, 8192).seconds == timer.matrix.gemm(4096, 8192, 8192).seconds
    np.True_
    """

    def __init__(self, gpu: GPUSpec, constants: Calibration, sustained: bool = False, training: bool = False) -> None:
        self.gpu, self.constants, self.sustained = gpu, constants, sustained
        self.device = device_of(gpu)
        libraries = GemmLibraries(gpu, constants, self.device, training)
        self.matrix = MatrixTimer(self.device, constants, libraries, sustained)
        self.attention = AttentionTimer(self.device, constants, libraries, sustained)
        self.experts = ExpertTimer(self.device, constants, libraries, sustained)
        self.scans = ScanTimer(self.device, constants)
        self.picked = PickedTimer(self.device, constants)
        self.vector = VectorTimer(self.device, constants)

    def gemm(
        self,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        batch: ArrayLike = 1,
        dtype: str = "bf16",
        accumulate: str | None = None,
        library: str = DEFAULT,
        weights: str | None = None,
        rotation: float = math.inf,
        sustained: bool | None = None,
    ) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n], the product that most ask for first; as `matrix.gemm`."""
        return self.matrix.gemm(m, n, k, batch, dtype, accumulate, library, weights, rotation, sustained)

    def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float:
        """Dense peak, FLOP/s; as `simgpu.timing.device.Device.peak`."""
        return self.device.peak(dtype, accumulate, tensor, key)
