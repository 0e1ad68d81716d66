"""Laws of a data pipeline beside a step: what can only get slower, what adds up, what is refused."""

import pytest
from sampling import sampled

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.simulation.call import simulate
from simgpu.workload.data.catalogue import known
from simgpu.workload.data.fields import Data
from simgpu.workload.data.pipeline import feed

CATALOGUE = Catalogue()
RESNET, NODE, CARD = CATALOGUE.network("resnet50"), CATALOGUE.cluster("dgx-a100"), CATALOGUE.cluster("rtx-4090")
STORAGE = list(known().storage)


def run(cluster=NODE, dp=8, batch=2048, **data):
    job = {"kind": "network", "mode": "training", "batch": batch, **({"data": data} if data else {})}
    return simulate(cluster, job, RESNET, {"dp": dp}, dtype="fp16")


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("cores", [None, 6])
def test_more_workers_are_never_slower(storage, cores):
    times = [run(storage=storage, cores=cores, workers=workers).step_s for workers in (0, 1, 2, 4, 8, 16, 64, 512)]
    assert times == sorted(times, reverse=True)
    rates = [run(storage=storage, cores=cores, workers=workers).data_samples_per_s for workers in (1, 4, 32)]
    assert rates == sorted(rates)


def test_a_step_is_never_shorter_than_its_slowest_part_and_the_parts_of_its_time_add_up():
    alone = run()
    for storage in STORAGE:
        for workers in (1, 4, 16):
            done = run(storage=storage, workers=workers)
            assert done.step_s == pytest.approx(max(alone.step_s, done.data_s))
            assert done.data_wait_s == pytest.approx(done.step_s - alone.step_s)
            assert done.idle_s == pytest.approx(alone.idle_s + done.data_wait_s)
            assert done.images_per_s * done.step_s == pytest.approx(2048) and done.flop == alone.flop
            assert done.mfu * done.step_s == pytest.approx(alone.mfu * alone.step_s)
            assert done.step_s_p10 <= done.step_s <= done.step_s_p90
            assert (done.data_limit == "step") == (done.data_wait_s == 0) == (done.data_buys == "nothing")


def test_without_workers_or_batches_ahead_reading_and_computing_take_turns():
    alone = run()
    for lone in ({"workers": 0}, {"workers": 8, "prefetch": 0}):
        done = run(**lone)
        assert done.step_s == pytest.approx(alone.step_s + done.data_s) and "ahead" in done.data_buys


def test_what_is_bought_is_enough():
    short = run(storage="network_file_system", workers=2)
    assert short.data_buys == "9 workers a GPU, 6.6 cores a GPU, storage of 1.994 GB/s a node"
    assert run(storage="network_file_system", workers=9, bandwidth="1.995 GB/s").data_wait_s == 0
    assert run(storage="network_file_system", workers=8, bandwidth="1.995 GB/s").data_wait_s > 0


def test_waiting_gpus_draw_less_and_cost_more_for_an_image():
    full, slow = run(), run(workers=1)
    assert slow.power_w_per_gpu < full.power_w_per_gpu and slow.energy_j_per_image > full.energy_j_per_image


def test_samples_in_large_files_and_in_memory_come_sooner():
    """One request for each image waits 150 ms on an object store; in shards it is 0.1 ms of that."""
    files, shards = (run(storage="object_store", layout=layout) for layout in ("files", "shards"))
    assert shards.data_samples_per_s > 20 * files.data_samples_per_s
    cached = [run(storage="object_store", cached=share).data_samples_per_s for share in (0.0, 0.5, 0.9, 1.0)]
    assert cached == sorted(cached) and cached[0] < cached[-1]
    assert cached[-1] == pytest.approx(run(storage="host_memory").data_samples_per_s, rel=0.01)


def test_a_rate_is_the_least_of_its_parts_and_grows_with_gpus():
    one, eight = (feed(Data(), "image", NODE, gpus) for gpus in (1, 8))
    assert one.rate == min(one.rates.values()) == one.rates[one.slowest]
    assert eight.rates["workers"] == pytest.approx(8 * one.rates["workers"])
    assert eight.rates["storage"] == one.rates["storage"]  # the drives of the node


def test_tokens_that_are_there_already_cost_nothing_and_text_is_tokenised():
    steps = [
        simulate(CARD, {"kind": "training", "batch": 8, "tokens": 1024, "data": data}, "llama-3.2-1b")
        for data in ({"samples": "tokens"}, {"samples": "text"}, {"samples": "text", "workers": 0})
    ]
    assert steps[0].data_s < steps[1].data_s and steps[1].data_wait_s == 0 < steps[2].data_wait_s
    assert steps[2].tokens_per_s < steps[1].tokens_per_s == pytest.approx(steps[0].tokens_per_s)


BAD = [
    ({"samples": "imagent"}, "did you mean 'imagenet'"),
    ({"samples": "speech"}, "expected imagenet, coco"),
    ({"storage": "object_stor"}, "did you mean 'object_store'"),
    ({"decoder": "tokenizers"}, "decodes text, not image"),
    ({"bandwidth": "3 GB"}, "expected a unit of B/s"),
    ({"workers": -1}, "workers"),
]


@pytest.mark.parametrize("data, says", BAD)
def test_what_cannot_be_is_refused_in_one_line(data, says):
    with pytest.raises(InputError, match="data") as error:
        run(**data)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_every_figure_of_the_catalogue_has_a_source():
    entries = [*known().storage.values(), *known().samples.values(), *known().decoders.values()]
    assert all(one.sources and all(len(text) > 20 for text in one.sources.values()) for one in entries)
    assert {one.decoder for one in known().samples.values()} <= set(known().decoders)


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("workers", sampled([0, 2, 8], 3))
def test_a_pipeline_that_two_machines_have_in_common_never_widens_what_lies_between_them(storage, workers):
    """An article has an A100 "3 to 4 times faster, I/O included" than an RTX 4090: I/O alone cannot make it so."""
    machines = ("a100-sxm-80gb", "rtx-4090")
    job = {"kind": "network", "mode": "training", "batch": 128}
    data = {"storage": storage, "workers": workers, "layout": "shards", "bandwidth": "2 GB/s"}
    alone = [simulate(one, job, RESNET, dtype="fp16").images_per_s for one in machines]
    read = [simulate(one, {**job, "data": data}, RESNET, dtype="fp16").images_per_s for one in machines]
    assert 1 - 1e-9 <= read[0] / read[1] <= alone[0] / alone[1] + 1e-9
