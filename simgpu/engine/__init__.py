"""When does everything happen? A discrete-event core that knows nothing of GPUs."""

from simgpu.engine.loop import Phase
from simgpu.engine.simulator import Simulator
from simgpu.engine.timeline import Span, Timeline

__all__ = ["Phase", "Simulator", "Span", "Timeline"]
