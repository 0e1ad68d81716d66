"""As much of PyTorch as `simgpu measure` calls, on a clock of its own: every call costs what `COST` says.

Graphs repeat what was called while they were captured; ranks are threads that meet at a barrier.
"""

import multiprocessing
import os
import sys
import threading
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import ModuleType, SimpleNamespace

COST = {"mm": 5e-6, "sum": 3e-6, "copy_": 2e-6, "attention": 7e-6, "collective": 40e-6}
"""Seconds of a call."""


class OutOfMemoryError(RuntimeError):
    """As torch.cuda's."""


class Machine:
    """The clock of a GPU, what is being captured, and how operations fail."""

    def __init__(self):
        self.seconds, self.captured, self.fails, self.calls = 0.0, None, {}, []

    def call(self, name):
        if name in self.fails:
            raise self.fails[name]
        self.calls.append(name)
        if self.captured is not None:
            self.captured.append(COST[name])
        else:
            self.seconds += COST[name]


class Tensor:
    """A shape; what is called on it costs time."""

    def __init__(self, machine, *shape):
        self.machine, self.shape = machine, shape

    def __getattr__(self, name):
        return lambda *_, **__: self  # random_, to, t

    def copy_(self, other):
        self.machine.call("copy_")

    def item(self):
        return self.shape[0]


class Event:
    def __init__(self, machine):
        self.machine = machine

    def record(self):
        self.at = self.machine.seconds

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return 1e3 * (end.at - self.at)


class Graph:
    def __init__(self, machine):
        self.machine, self.costs = machine, []

    def replay(self):
        self.machine.seconds += sum(self.costs)


class Process(threading.Thread):
    """A process of torch.multiprocessing as a thread, with an end of the pipe of its own."""

    def __init__(self, target, args, daemon):
        pipe = Connection(os.dup(args[-1].fileno()))
        super().__init__(target=target, args=(*args[:-1], pipe), daemon=daemon)

    def run(self):
        with suppress(OSError):  # nobody listens any more: a process would die of it
            super().run()

    def terminate(self):
        pass


def modules(machine, gpus=1):
    """Modules by name, for `sys.modules`."""

    @contextmanager
    def graph(made):
        machine.captured = made.costs
        yield
        machine.captured = None

    @contextmanager
    def nothing(*_, **__):
        yield

    def tensor(*shape, **_):
        return Tensor(machine, *shape)

    found = SimpleNamespace(
        name="NVIDIA L40S", multi_processor_count=142, total_memory=47_810_000_000, L2_cache_size=96 * 2**20
    )
    stream = SimpleNamespace(wait_stream=lambda _: None)
    torch = ModuleType("torch")
    torch.__version__, torch.version = "0.fake", SimpleNamespace(cuda="0.1", hip=None)
    torch.cuda = SimpleNamespace(
        is_available=lambda: True,
        get_device_properties=lambda _: found,
        device_count=lambda: gpus,
        empty_cache=lambda: None,
        set_device=lambda _: None,
        synchronize=lambda: None,
        OutOfMemoryError=OutOfMemoryError,
        Event=lambda enable_timing: Event(machine),
        Stream=lambda: stream,
        current_stream=lambda: stream,
        stream=nothing,
        graph=graph,
        CUDAGraph=lambda: Graph(machine),
    )
    torch.inference_mode = nothing
    torch.uint8 = torch.float16 = torch.float32 = torch.bfloat16 = "a type"
    torch.backends = SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=None)))
    torch.zeros = torch.ones = torch.empty = torch.randn = torch.empty_like = tensor
    torch.tensor = lambda values, device: Tensor(machine, *values)
    torch.sum = lambda *_, **__: machine.call("sum")
    torch.mm = lambda *_, **__: machine.call("mm")
    attend = SimpleNamespace(scaled_dot_product_attention=lambda *_, **__: machine.call("attention"))
    torch.nn = SimpleNamespace(functional=attend)
    attention = ModuleType("torch.nn.attention")
    attention.sdpa_kernel, attention.SDPBackend = nothing, SimpleNamespace(FLASH_ATTENTION="flash")
    processes = ModuleType("torch.multiprocessing")
    processes.get_context = lambda _: SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Process)
    return {
        "torch": torch,
        "torch.nn.attention": attention,
        "torch.multiprocessing": processes,
        "torch.distributed": _distributed(machine, gpus),
    }


def _distributed(machine, ranks):
    distributed, barrier, lock = ModuleType("torch.distributed"), threading.Barrier(max(ranks, 1)), threading.Lock()

    def collective(*_, **__):
        with lock:
            machine.call("collective")

    distributed.init_process_group = lambda *_, **__: barrier.wait(10)
    distributed.destroy_process_group = lambda: None
    distributed.barrier = lambda: barrier.wait(10)
    distributed.ReduceOp = SimpleNamespace(MIN="min")
    for name in ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single"):
        setattr(distributed, name, collective)
    return distributed


def install(monkeypatch, gpus=1):
    """Put the modules in the place of PyTorch's; returns the machine behind them."""
    machine = Machine()
    for name, module in modules(machine, gpus).items():
        monkeypatch.setitem(sys.modules, name, module)
    return machine
