"""Columns of a result that say what it costs and how often it fails: absent where the scenario does not ask."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.tabular import Tabular


@dataclass(frozen=True, repr=False, kw_only=True)
class Operated(Tabular):
    """Cost and failures of a job, where its scenario has `cost:` or `reliability:`."""

    price_used: str | None = None
    """The prices that the cost was reckoned with: of what, how much, kind, vendor, date; or why there is no cost."""
    utilisation: float | None = None
    """Share of the paid hours that are used; it divides the fixed part of the cost (share)."""
    usd_per_gpu_hour: float | None = None
    """USD of a GPU-hour that is used (USD)."""
    fixed_usd_per_h: float | None = None
    """USD an hour of all GPUs of the job whether they are used or not: what they cost to have, to house, or to rent
    (USD)."""
    energy_usd_per_h: float | None = None
    """USD an hour of the energy that all GPUs of the job draw while they work; 0 where rent holds it (USD)."""
    idle_usd_per_h: float | None = None
    """USD an hour of the energy that all GPUs of the job draw while they wait; 0 where rent holds it (USD)."""
    chips_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: what GPUs cost to buy (USD)."""
    server_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: the rest of their servers (USD)."""
    network_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: the fabric between nodes (USD)."""
    storage_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: storage (USD)."""
    hosting_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: room, cooling and power feeds (USD)."""
    staff_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: staff (USD)."""
    software_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: licences and support (USD)."""
    spares_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: failed parts that no warranty covers (USD)."""
    rent_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: rent (USD)."""
    energy_usd_per_gpu_hour: float | None = None
    """Part of usd_per_gpu_hour: electricity (USD)."""
    tenants: int | None = None
    """Slices of this kind that a GPU is cut into, each for a tenant with memory, cache and multiprocessors of its own;
    1 of a whole GPU."""
    usd_per_step: float | None = None
    """USD of a step (USD)."""
    usd_per_step_p10: float | None = None
    usd_per_step_p90: float | None = None
    usd_per_run: float | None = None
    """USD of workload.train_tokens, without failures (USD)."""
    usd_per_run_p10: float | None = None
    usd_per_run_p90: float | None = None
    usd_per_thousand_requests: float | None = None
    """USD of a thousand requests to models that share a GPU, all of the hour on them (USD)."""
    usd_per_thousand_requests_p10: float | None = None
    usd_per_thousand_requests_p90: float | None = None
    usd_per_stream_hour: float | None = None
    """USD of an hour of one of streams (USD)."""
    usd_per_stream_hour_p10: float | None = None
    usd_per_stream_hour_p90: float | None = None
    usd_per_image: float | None = None
    """USD of an image (USD)."""
    usd_per_image_p10: float | None = None
    usd_per_image_p90: float | None = None
    usd_per_session: float | None = None
    """USD of a session, all of the hour on those that end (USD)."""
    usd_per_session_p10: float | None = None
    usd_per_session_p90: float | None = None
    usd_per_million_output_tokens: float | None = None
    """USD of a million output tokens, all of the hour on them (USD)."""
    usd_per_million_output_tokens_p10: float | None = None
    usd_per_million_output_tokens_p90: float | None = None
    usd_per_million_tokens: float | None = None
    """USD of a million tokens, prompts and output alike (USD)."""
    usd_per_million_tokens_p10: float | None = None
    usd_per_million_tokens_p90: float | None = None
    usd_per_million_input_tokens: float | None = None
    """USD of a million prompt tokens, at the share of the time that prompts take (USD)."""
    usd_per_million_input_tokens_p10: float | None = None
    usd_per_million_input_tokens_p90: float | None = None
    usd_per_million_decoded_tokens: float | None = None
    """USD of a million output tokens at the share of the time that is left: with the input tokens it adds up to the
    hour (USD)."""
    usd_per_million_decoded_tokens_p10: float | None = None
    usd_per_million_decoded_tokens_p90: float | None = None
    rent_compared: str | None = None
    """The rent that owning is compared with."""
    rent_compared_usd_per_gpu_hour: float | None = None
    """USD of a GPU-hour of that rent (USD)."""
    break_even_utilisation: float | None = None
    """Share of its hours that an owned GPU must be used for to cost what the rented one does; above 100 %: never
    (share)."""
    payback_years: float | None = None
    """Years after which a bought GPU has taken less cash than renting it for the used hours (years)."""
    rates_used: str | None = None
    """The file of hardware/reliability that the failures are from."""
    mttf_s: float | None = None
    """Mean time between interruptions of the whole job that nobody planned (s)."""
    preempted_s: float | None = None
    """Mean time between preemptions of the whole job, whose machines are rented spot (s)."""
    interruptions: float | None = None
    """Interruptions that nobody planned, in the whole run with failures."""
    training_goodput: float | None = None
    """Share of the time on the wall that is useful work, with saves, failures and restarts, by the closed form; P10
    and P90 by how clusters differ (share)."""
    training_goodput_p10: float | None = None
    training_goodput_p90: float | None = None
    goodput_mfu: float | None = None
    """Mfu x training_goodput / straggler_slowdown: share of the peak over the time on the wall (share)."""
    straggler_slowdown: float | None = None
    """How much longer a step takes for the slowest of all ranks; it is not in training_goodput."""
    checkpoint_bytes: float | None = None
    """Bytes of the state that a checkpoint holds (B)."""
    checkpoint_interval_s: float | None = None
    """Useful work between two checkpoints (s)."""
    checkpoint_s: float | None = None
    """Time to write a checkpoint to storage (s)."""
    checkpoint_stall_s: float | None = None
    """Time that training stands still for one (s)."""
    restart_s: float | None = None
    """Time from a failure until training goes on: detection, diagnosis, replacement, start, load, warm-up (s)."""
    spare_nodes: int | None = None
    """Nodes held ready: as given, or as many as are enough for 99 % of the time."""
    training_days_with_failures: float | None = None
    """Days for workload.train_tokens with stragglers, saves, failures and restarts (days)."""
    training_days_with_failures_p10: float | None = None
    training_days_with_failures_p90: float | None = None
    usd_per_run_with_failures: float | None = None
    """USD of them, spare nodes among them (USD)."""
    usd_per_run_with_failures_p10: float | None = None
    usd_per_run_with_failures_p90: float | None = None
    simulated_goodput: float | None = None
    """Training_goodput of whole runs that were simulated failure by failure: the mean; P10 and P90 from run to run
    (share)."""
    simulated_goodput_p10: float | None = None
    simulated_goodput_p90: float | None = None
    useful_share: float | None = None
    """Share of the time of the simulated runs: useful work (share)."""
    saving_share: float | None = None
    """Share of the time of the simulated runs: standing still for checkpoints (share)."""
    lost_share: float | None = None
    """Share of the time of the simulated runs: work that failures threw away (share)."""
    restarting_share: float | None = None
    """Share of the time of the simulated runs: restarts (share)."""
    waiting_share: float | None = None
    """Share of the time of the simulated runs: waiting for a spare node (share)."""
    shrunk_share: float | None = None
    """Share of the time of the simulated runs that missing replicas would have worked, of a job that shrinks
    (share)."""
    planned_share: float | None = None
    """Share of the time of the simulated runs: planned stops (share)."""
    quality_kept: float | None = None
    """What the weights keep of the model's quality in 16 bits, as others measured it: the score of tests, or of
    perplexities the ratio; of several figures the lowest (share)."""
    quality_used: str | None = None
    """Whose figure that is: measure, model, method, date, source; or that nobody has published one."""
    month_used: str | None = None
    """How the machines of the month are had, and what for."""
    hours_per_month: float | None = None
    """Hours of use a month, of all uses (h)."""
    paid_hours_per_month: float | None = None
    """Of these with starts, losses to preemptions, and what is rounded up; of machines that are kept those in which
    they work (h)."""
    start_ups_per_month: int | None = None
    """Sessions of the month, each of which begins with a start."""
    start_up_s: float | None = None
    """From the start of a session until it works: instance, image, weights, compilation, CUDA graphs (s)."""
    usd_per_month: float | None = None
    """USD of a month of use; P10 and P90 by the cheapest and the dearest quote, and by the time where the hours follow
    from the job (USD)."""
    usd_per_month_p10: float | None = None
    usd_per_month_p90: float | None = None
    rent_usd_per_month: float | None = None
    """Part of usd_per_month: rented machines (USD)."""
    owned_usd_per_month: float | None = None
    """Part of usd_per_month: owned machines, their energy among it (USD)."""
    start_up_usd_per_month: float | None = None
    """Part of usd_per_month that starts take (USD)."""
    break_even_hours_per_month: float | None = None
    """Hours of use a month from which on owning the scenario's machine costs less than renting it; more than a month
    has: never. P10 by the cheapest purchase against the dearest rent, P90 the other way round (h)."""
    break_even_hours_per_month_p10: float | None = None
    break_even_hours_per_month_p90: float | None = None
    heat_used: str | None = None
    """The cooling that the GPUs are held by: kind, how much hotter than the inlet at rated power, inlet, the
    temperature they are held at."""
    held_power_w: float | None = None
    """Power of a GPU that its temperature leaves; P10 and P90 by the most and the least rise that was measured with
    such cooling (W)."""
    held_power_w_p10: float | None = None
    held_power_w_p90: float | None = None
    held_clock: float | None = None
    """Clock of busy tensor cores at that power, over the clock that the power limit leaves a cool GPU; P10 and P90
    likewise (share)."""
    held_clock_p10: float | None = None
    held_clock_p90: float | None = None
