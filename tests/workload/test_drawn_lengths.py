"""Clients whose requests differ in length: they meet by chance, not in each step, but for the first of a test."""

import pytest
from deployments import deployed

from simgpu.errors import InputError
from simgpu.workload.inference.jobs import Serving
from simgpu.workload.inference.serving import Load, prompts_by_chance, serve

ONE = deployed()
CLIENTS = Load(32, 2000, 200)


def drawn(waves: float = 0, clients: float = 32, engine=ONE):
    return serve(engine, Load(clients, CLIENTS.prompt, CLIENTS.output, drawn=True, waves=waves))


@pytest.mark.parametrize("rho, queue", [(0.0, 0.0), (0.5, 0.5), (0.8, 2.0)])
def test_prompts_wait_as_in_a_queue_with_equal_service(rho, queue):
    assert prompts_by_chance(rho, 100, 0) == pytest.approx(queue)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 1.0, 1.5])
@pytest.mark.parametrize("size", [1, 2, 64])
def test_no_request_waits_for_more_than_half_of_the_others(rho, size):
    assert 0 <= prompts_by_chance(rho, size, 0) <= (size - 1) / 2
    assert prompts_by_chance(rho, size, 1) == (size - 1) / 2  # all come at once
    waits = [prompts_by_chance(rho, size, waves) for waves in (1, 2, 10, 1000, 0)]
    assert waits == sorted(waits, reverse=True)


def test_first_tokens_come_sooner_where_clients_are_apart_and_tokens_as_before():
    together = serve(ONE, CLIENTS)
    assert drawn().ttft < together.ttft
    assert drawn().tpot == pytest.approx(together.tpot)
    assert drawn().ttft < drawn(10).ttft < drawn(2).ttft


def test_a_client_alone_waits_for_nobody():
    assert drawn(10, 1).ttft == drawn(0, 1).ttft == drawn(1, 1).ttft


def test_steps_of_prompts_keep_clients_together():
    engine = deployed(engine="sglang")
    assert drawn(10, engine=engine).ttft == serve(engine, CLIENTS).ttft


def test_time_outside_of_the_engine_comes_on_top():
    late = serve(ONE, Load(32, CLIENTS.prompt, CLIENTS.output, front=0.25))
    assert late.ttft == pytest.approx(serve(ONE, CLIENTS).ttft + 0.25, rel=0.02)


def test_a_job_says_lengths_and_waves():
    for wrong in ({"waves": 10}, {"rate": 1.0, "concurrency": None, "waves": 10, "lengths": "drawn"}):
        with pytest.raises(InputError, match="waves are of clients"):
            Serving(**{"concurrency": 8, "prompt": 100, "output": 10, **wrong})
    assert Serving(concurrency=8, prompt=100, output=10, lengths="drawn", waves=10).waves == 10
