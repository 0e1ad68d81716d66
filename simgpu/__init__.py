"""simgpu: how long does this model, split this way, take on this cluster? It needs no GPU.

>>> import simgpu
>>> result = simgpu.simulate(
...     simgpu.load_cluster("dgx-h100"),
...     simgpu.Prefill(batch=1, tokens=4096),
...     simgpu.load_model("llama-2-70b"),
...     simgpu.Plan(tp=8),
... )
>>> 0 < result.efficiency < 1
True
>>> chat = simgpu.Inference(batch=8, prompt=1024, output=128, runtime="vllm")
>>> simgpu.simulate(simgpu.load_cluster("h100-sxm"), chat, simgpu.load_model("llama-3.1-8b")).tpot_s < 0.02
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simgpu.tabular import Tabular
from simgpu.version import __version__

if TYPE_CHECKING:
    from simgpu.api import (
        calibrate,
        diff,
        explain,
        figures,
        fit,
        largest,
        launch,
        plan_capacity,
        plot_timeline,
        recommend,
        report,
        results,
        run_experiment,
        save_trace,
        search,
        sensitivity,
        sweep,
        validate,
    )
    from simgpu.api_evidence import (
        accept,
        capacity,
        check_claims,
        compare,
        observe,
        place,
        replay,
        share,
        what_breaks,
    )
    from simgpu.api_parts import (
        capture,
        import_config,
        import_machine,
        import_onnx,
        load_cluster,
        load_gpu,
        load_model,
        load_timer,
        time_collective,
        topology_of,
    )
    from simgpu.catalog import Catalogue
    from simgpu.errors import InputError, SimgpuError
    from simgpu.plan.parallelism import Plan
    from simgpu.simulation.call import simulate
    from simgpu.simulation.inference_result import BatchResult, InferenceResult, MixedStepResult, ServingResult
    from simgpu.simulation.memory_use import MemoryUse
    from simgpu.simulation.network_result import NetworkResult
    from simgpu.simulation.post_training_result import PostTrainingResult
    from simgpu.simulation.result import Interval, Result
    from simgpu.simulation.shared_result import SharedResult
    from simgpu.simulation.step_result import StepResult, TrainingResult
    from simgpu.workload.inference.jobs import Speculative
    from simgpu.workload.jobs import (
        Inference,
        MixedStep,
        Network,
        OperatorList,
        PostTraining,
        Prefill,
        Serving,
        Shared,
        Training,
    )


def _draw(answer: Any) -> dict[str, Any]:
    from simgpu.study.report.pictures import drawn

    return drawn(answer)


Tabular.draw = staticmethod(_draw)  # what draws answers lies above them

_HOME = {
    "BatchResult": "simgpu.simulation.inference_result",
    "Catalogue": "simgpu.catalog",
    "Inference": "simgpu.workload.jobs",
    "InferenceResult": "simgpu.simulation.inference_result",
    "InputError": "simgpu.errors",
    "Interval": "simgpu.simulation.result",
    "MemoryUse": "simgpu.simulation.memory_use",
    "MixedStep": "simgpu.workload.jobs",
    "MixedStepResult": "simgpu.simulation.inference_result",
    "OperatorList": "simgpu.workload.jobs",
    "Network": "simgpu.workload.jobs",
    "NetworkResult": "simgpu.simulation.network_result",
    "Plan": "simgpu.plan.parallelism",
    "PostTraining": "simgpu.workload.jobs",
    "PostTrainingResult": "simgpu.simulation.post_training_result",
    "Prefill": "simgpu.workload.jobs",
    "Result": "simgpu.simulation.result",
    "Serving": "simgpu.workload.jobs",
    "ServingResult": "simgpu.simulation.inference_result",
    "Shared": "simgpu.workload.jobs",
    "SharedResult": "simgpu.simulation.shared_result",
    "SimgpuError": "simgpu.errors",
    "Speculative": "simgpu.workload.inference.jobs",
    "StepResult": "simgpu.simulation.step_result",
    "Traffic": "simgpu.workload.jobs",
    "TrafficResult": "simgpu.simulation.inference_result",
    "Training": "simgpu.workload.jobs",
    "TrainingResult": "simgpu.simulation.step_result",
    "accept": "simgpu.api_evidence",
    "capacity": "simgpu.api_evidence",
    "check_claims": "simgpu.api_evidence",
    "compare": "simgpu.api_evidence",
    "observe": "simgpu.api_evidence",
    "place": "simgpu.api_evidence",
    "replay": "simgpu.api_evidence",
    "share": "simgpu.api_evidence",
    "what_breaks": "simgpu.api_evidence",
    "calibrate": "simgpu.api",
    "capture": "simgpu.api_parts",
    "diff": "simgpu.api",
    "explain": "simgpu.api",
    "figures": "simgpu.api",
    "fit": "simgpu.api",
    "import_config": "simgpu.api_parts",
    "import_machine": "simgpu.api_parts",
    "import_onnx": "simgpu.api_parts",
    "largest": "simgpu.api",
    "launch": "simgpu.api",
    "load_cluster": "simgpu.api_parts",
    "load_gpu": "simgpu.api_parts",
    "load_model": "simgpu.api_parts",
    "load_timer": "simgpu.api_parts",
    "plan_capacity": "simgpu.api",
    "plot_timeline": "simgpu.api",
    "recommend": "simgpu.api",
    "report": "simgpu.api",
    "results": "simgpu.api",
    "run_experiment": "simgpu.api",
    "save_trace": "simgpu.api",
    "search": "simgpu.api",
    "sensitivity": "simgpu.api",
    "simulate": "simgpu.simulation.call",
    "sweep": "simgpu.api",
    "time_collective": "simgpu.api_parts",
    "topology_of": "simgpu.api_parts",
    "validate": "simgpu.api",
}

__all__ = [
    "BatchResult",
    "Catalogue",
    "Inference",
    "InferenceResult",
    "InputError",
    "Interval",
    "MemoryUse",
    "MixedStep",
    "MixedStepResult",
    "Network",
    "NetworkResult",
    "OperatorList",
    "Plan",
    "PostTraining",
    "PostTrainingResult",
    "Prefill",
    "Result",
    "Serving",
    "ServingResult",
    "Shared",
    "SharedResult",
    "SimgpuError",
    "Speculative",
    "StepResult",
    "Traffic",
    "TrafficResult",
    "Training",
    "TrainingResult",
    "__version__",
    "accept",
    "calibrate",
    "capacity",
    "capture",
    "check_claims",
    "compare",
    "diff",
    "explain",
    "figures",
    "fit",
    "import_config",
    "import_machine",
    "import_onnx",
    "largest",
    "launch",
    "load_cluster",
    "load_gpu",
    "load_model",
    "load_timer",
    "observe",
    "place",
    "plan_capacity",
    "plot_timeline",
    "recommend",
    "replay",
    "report",
    "results",
    "run_experiment",
    "save_trace",
    "search",
    "sensitivity",
    "share",
    "simulate",
    "sweep",
    "time_collective",
    "topology_of",
    "validate",
    "what_breaks",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import simgpu` and `simgpu --help` stay light."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'simgpu' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
