"""A server whose requests come at a rate, whatever it does: an open load.

By Little's law it has as many requests at a time as come while one is answered,

    N = rate x (TTFT + TPOT (output - 1)),

where both times grow with N (`simgpu.workload.inference.serving`): the least N that answers as many requests/s as come.
Beyond the rate of a full batch the queue grows without bound, and there is no steady state. Near that rate a small
error of a step is a large one of the times.
"""

from __future__ import annotations

from dataclasses import replace

from simgpu.errors import InputError
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.serving import Load, Serving, room_for, serve

STEPS = 40
"""Halvings of the interval in which N lies."""


def serve_at_rate(
    deployment: Deployment, rate: float, prompt: int, output: int, cached: int = 0, look: float = 0.0
) -> Serving:
    """The steady state of a server that `rate` requests/s come to, all replicas together.

    A vision tower takes `look` seconds for the images of a request. Raises `InputError` (key only) where the server
    answers fewer.
    """
    load = Load(1, prompt, output, cached, closed=False, look=look)

    def at(requests: float) -> Serving:
        return serve(deployment, replace(load, concurrency=requests))

    room = max(room_for(deployment, load), 1.0) * deployment.plan.dp
    low, high = 0.0, min(float(deployment.plan.dp), room)
    while high < room and at(high).requests_per_s < rate:
        low, high = high, min(2 * high, room)
    most = at(high).requests_per_s
    if most < rate:
        problem = f"{rate:g} requests/s, and this server answers {most:.3g}: the queue grows without bound"
        raise InputError(f"{problem}; expected fewer, or more replicas", key="workload.rate")
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle).requests_per_s >= rate else (middle, high)
    return at(high)
