"""A GPU derived from a GPU: a MIG slice, a power cap, a limit of the clock.

They are written after the GPU's name, each at most once, in any order: `h100-sxm@1g.10gb`, `h100-sxm@500W`,
`a100-sxm-80gb@1095MHz`, `h100-sxm@500W@1g.10gb`. Cap and limit are settings of the whole GPU; the slice is cut from
what they leave. The functions are pure: `GPUSpec` in, `GPUSpec` out, with a source for every figure they changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.figure import Quantity, Switch
from simgpu.hardware.power import USUAL_DEMAND, Drawn, clock_under
from simgpu.hardware.spec import GPUSpec, MigProfile, Peak, Power
from simgpu.units import format_si, parse_quantity, to_si

MARK = "@"
"""Stands between a GPU's name and what is made of it, and between several of those."""

MEMORY_SHARE = 0.55
"""Share of the TDP above which a cap leaves memory-bound kernels alone; below it they lose in proportion.

An H100 SXM that only reads its HBM at random keeps its full rate at 400 of 700 W, 97 % at 375 W, 90 % at 350 W
(miner benchmark published on GitHub, 2026); the memory clock of the RTX PRO 6000 does not move with the cap.
"""

LOWEST_CAP = 0.25
"""Lowest power limit that drivers accept, over the TDP: 100 of 400 W (A100 SXM), 150 of 600 W (RTX PRO 6000)."""

LOWEST_CLOCK = 0.1
"""Lowest clock that is accepted, over the boost clock: drivers go down to 210 MHz."""

_POWER = re.compile(r"\d+(\.\d*)?k?W")
_CLOCK = re.compile(r"\d+(\.\d*)?[MG]Hz")


def base_name(name: str) -> str:
    """The GPU that a derived one is made of: 'h100-sxm' of 'h100-sxm@500W'."""
    return name.partition(MARK)[0]


def derive(gpu: GPUSpec, changes: Sequence[str], drawn: Drawn) -> GPUSpec:
    """`gpu` with what stands after its name: `derive(h100, ["500W", "1g.10gb"], catalogue.drawn(h100))`.

    The result is named in one order, cap, limit, slice, however it was asked for. Raises `InputError`.
    """
    watts: float | None = None
    hertz: float | None = None
    profile: str | None = None
    for change in changes:
        kind = "cap" if _POWER.fullmatch(change) else "limit" if _CLOCK.fullmatch(change) else "slice"
        if {"cap": watts, "limit": hertz, "slice": profile}[kind] is not None:
            raise InputError(f"'{gpu.name}{MARK}{MARK.join(changes)}' gives two {_WORDS[kind]}; expected one")
        if kind == "cap":
            watts = to_si(*parse_quantity(change), "W")
        elif kind == "limit":
            hertz = to_si(*parse_quantity(change), "Hz")
        else:
            profile = change
    made = throttled(gpu, watts, hertz, drawn=drawn)
    return made if profile is None else sliced(made, profile)


_WORDS = {"cap": "power caps", "limit": "clock limits", "slice": "slices"}


# ---- power caps and clock limits ---------------------------------------------------------------------


def clock_share(cap: float, demand: float = USUAL_DEMAND) -> float:
    """Sustained clock of power-bound work under a cap of `cap` x TDP, over the clock without: at most 1.

    `demand` is the power that busy tensor cores would draw at the highest clock, over the TDP (`clock_under`).
    """
    return clock_under(cap, demand) / clock_under(1.0, demand)


def bandwidth_share(cap: float, idle: float) -> float:
    """The share of memory bandwidth that a cap of `cap` x TDP leaves: 1 down to `MEMORY_SHARE`, then linear.

    None is left at `idle`, what the board draws without any work.
    """
    return min(1.0, (cap - idle) / (MEMORY_SHARE - idle))


def throttled(gpu: GPUSpec, watts: float | None = None, hertz: float | None = None, *, drawn: Drawn) -> GPUSpec:
    """`gpu` with its power capped at `watts` and its clock limited to `hertz` (`nvidia-smi -pl` and `-lgc`).

    The boost clock and all peaks become what power-bound work sustains: they stand for long kernels. The highest
    clock, which light and short kernels reach, is touched by the limit only. Constants of kernels stay the parent's;
    `compute.rated_clock` says for which boost clock they hold, where one is an energy (which goes with the clock).
    """
    share, stream, added = 1.0, 1.0, []
    if watts is not None:
        tdp = gpu.power.tdp.si
        _check_range(gpu, watts, LOWEST_CAP * tdp, tdp, "W", "power cap")
        share, stream = clock_share(watts / tdp, drawn.busy), bandwidth_share(watts / tdp, drawn.idle)
        reason = f"power cap of {watts:g} of {tdp:g} W on {gpu.name}: clock x {share:.3f}, bandwidth x {stream:.3f}"
        reason += " (power goes with clock x voltage squared, good to about +-10 % at half the power)"
        added.append((f"{watts:.10g}W", reason))
    boost = gpu.compute.boost_clock.si
    top = gpu.compute.max_clock.si if gpu.compute.max_clock else boost
    limit = top
    if hertz is not None:
        _check_range(gpu, hertz, LOWEST_CLOCK * boost, top, "Hz", "clock limit")
        limit = hertz
        added.append((f"{hertz / 1e6:.10g}MHz", f"clock limit of {format_si(hertz, 'Hz')} on {gpu.name}"))
    if not added:
        return gpu
    source = MARK + MARK.join(name for name, _ in added)

    def scaled(figure: Quantity, factor: float) -> Quantity:
        return figure.model_copy(update={"value": figure.value * factor, "source": source}) if factor < 1 else figure

    def slower(peak: Peak) -> Peak:
        clock = top if peak.engine == "vector" or peak.dtype == "fp64" else boost
        made = scaled(peak, min(clock * share, limit) / clock)
        return made if made is peak else made.model_copy(update={"rated": _plain(peak)})  # type: ignore[return-value]

    compute: dict[str, Any] = {"boost_clock": scaled(gpu.compute.boost_clock, min(boost * share, limit) / boost)}
    if compute["boost_clock"] is not gpu.compute.boost_clock:
        compute["rated_clock"] = gpu.compute.rated_clock or gpu.compute.boost_clock
    if gpu.compute.max_clock:
        compute["max_clock"] = scaled(gpu.compute.max_clock, limit / top)
    elif share < 1:  # light kernels keep the clock that a cap takes from heavy ones
        compute["max_clock"] = gpu.compute.boost_clock.model_copy(update={"value": limit, "source": source})
    if gpu.compute.base_clock:
        compute["base_clock"] = scaled(gpu.compute.base_clock, min(1.0, limit / gpu.compute.base_clock.si))
    power = gpu.power
    if watts is not None and watts < gpu.power.tdp.si:
        power = Power(tdp=scaled(gpu.power.tdp, watts / gpu.power.tdp.si), rated_tdp=gpu.power.tdp)
    return gpu.model_copy(
        update={
            "name": gpu.name + source,
            "title": f"{gpu.title}, {', '.join(text.partition(' on ')[0] for _, text in added)}",
            "sources": gpu.sources | {source: "; ".join(text for _, text in added)},
            "compute": gpu.compute.model_copy(update=compute),
            "peak": [slower(peak) for peak in gpu.peak],
            "memory": gpu.memory.model_copy(update={"bandwidth": scaled(gpu.memory.bandwidth, stream)}),
            "power": power,
        }
    )


def _check_range(gpu: GPUSpec, value: float, least: float, most: float, unit: str, what: str) -> None:
    if not least <= value <= most * (1 + 1e-9):
        expected = f"expected {format_si(least, unit)} to {format_si(most, unit)}"
        raise InputError(f"a {what} of {format_si(value, unit)} is out of range for '{gpu.name}'; {expected}")


# ---- MIG slices --------------------------------------------------------------------------------------


ISOLATED = (
    "multiprocessors, memory, its bandwidth, L2 and copy engines: what other slices do does not change their times"
)
"""What a slice has of its own (NVIDIA Multi-Instance GPU User Guide, supported profiles: fractions of memory and L2,
hardware units and copy engines of each)."""

SHARED = (
    "power limit and clocks, the host link, the host; a fault of the board takes all slices; no NVLink, no peer-to-peer"
)
"""What the slices of a GPU have in common."""


def mig_shares(gpu: GPUSpec, profile: MigProfile) -> tuple[float, float]:
    """The shares that a slice has of the multiprocessors, and of memory bandwidth and L2, which go together."""
    whole = max(one.memory_slices for one in gpu.mig_profiles)
    return slice_sms(gpu, profile) / gpu.compute.sm_count.si, profile.memory_slices / whole


def sliced(gpu: GPUSpec, profile: str) -> GPUSpec:
    """One slice of `gpu` as the vendor's partitioning makes it, e.g. '1g.10gb' (the others may be busy or not).

    SMs are those the driver gives the profile, memory bandwidth and L2 go with its memory slices. A slice has no
    links of its own and no peer-to-peer. Its share of power is that of its compute slices; its clock under load is the
    whole's.
    """
    known = {one.name: one for one in gpu.mig_profiles}
    chosen = known.get(profile.lower())
    if chosen is None:
        if not known:
            raise InputError(f"'{gpu.name}' cannot be sliced: no MIG profiles are known; {_FORMS}")
        raise InputError(f"'{gpu.name}' has no MIG profile {shown(profile)}{nearest(profile, known)}; {_FORMS}")
    count = slice_sms(gpu, chosen)
    compute, memory = mig_shares(gpu, chosen)
    power = chosen.compute_slices / max(one.compute_slices for one in gpu.mig_profiles)
    source = MARK + chosen.name

    def part(figure: Quantity, share: float) -> Quantity:
        return figure.model_copy(update={"value": figure.value * share, "source": source})

    def part_of(peak: Peak) -> Quantity:
        made = part(peak, compute)
        return made if peak.rated is None else made.model_copy(update={"rated": part(peak.rated, compute)})

    reason = f"MIG slice {chosen.name} of {gpu.name}: {count} of {gpu.compute.sm_count.si:g} SMs"
    reason += f", {memory:g} of memory bandwidth and L2, {power:.3g} of power"
    return gpu.model_copy(
        update={
            "name": gpu.name + source,
            "title": f"{gpu.title}, MIG slice {chosen.name}",
            "sources": gpu.sources | {source: reason},
            "compute": gpu.compute.model_copy(
                update={"sm_count": chosen.sm_count or part(gpu.compute.sm_count, compute)}
            ),
            "peak": [part_of(peak) for peak in gpu.peak],
            "memory": gpu.memory.model_copy(
                update={
                    "capacity": chosen.memory,
                    "bandwidth": part(gpu.memory.bandwidth, memory),
                    "bus_width": gpu.memory.bus_width and part(gpu.memory.bus_width, memory),
                    "l2_cache": part(gpu.memory.l2_cache, memory),
                }
            ),
            "nvlink": None,
            "host_link": gpu.host_link.model_copy(update={"peer_to_peer": Switch(value=False, source=source)}),
            "power": Power(
                tdp=part(gpu.power.tdp, power),
                rated_tdp=gpu.power.rated_tdp and part(gpu.power.rated_tdp, power),
                **{key: part(of, power) for key, of in rated_power(gpu).items()},
            ),
            "mig_profiles": [],
            "video": None,
        }
    )


def rated_power(gpu: GPUSpec) -> dict[str, Quantity]:
    """Peaks that the power limit of `gpu` was made for, FLOP/s, as `Power` has them: without a cap's effect."""
    return {
        "rated_peak": gpu.power.rated_peak or _whole(gpu.half_peak),
        "rated_vector_peak": gpu.power.rated_vector_peak or _whole(gpu.vector_peak),
    }


def _whole(peak: Peak) -> Quantity:
    """A peak without a power cap or a clock limit, as a figure of its own."""
    return Quantity(value=peak.datasheet, unit="FLOP/s", source=peak.source)


def _plain(peak: Peak) -> Quantity:
    """A peak as a plain figure."""
    return Quantity(value=peak.si, unit="FLOP/s", source=peak.source)


def rated(gpu: GPUSpec, origin: GPUSpec) -> GPUSpec:
    """`gpu`, whose figures were set by hand, with the clocks under load that `origin` has.

    A limit of power lets fewer FLOPs run at a higher clock, so that half a peak would speed up all that does not
    reach it; who changes a peak asks for that peak alone.
    """
    before = {peak.key: peak.si for peak in origin.peak}
    gpu = gpu.model_copy(update={"peak": [_in_proportion(peak, before.get(peak.key, peak.si)) for peak in gpu.peak]})
    changed = (gpu.half_peak.si, gpu.vector_peak.si) != (origin.half_peak.si, origin.vector_peak.si)
    if not changed or gpu.power.rated_peak is not None:
        return gpu
    return gpu.model_copy(update={"power": gpu.power.model_copy(update=rated_power(origin))})


def _in_proportion(peak: Peak, before: float) -> Peak:
    """A hand-set peak in the proportion that a power cap left of `before`: without the cap it would be larger again."""
    if peak.rated is None or peak.si == before:
        return peak
    whole = peak.rated.model_copy(update={"value": peak.rated.value * peak.si / before, "source": peak.source})
    return peak.model_copy(update={"rated": whole})


def capped(gpu: GPUSpec, origin: GPUSpec, drawn: Drawn) -> GPUSpec:
    """`gpu`, whose figures were set by hand, with the clocks of a power cap where its limit is below `origin`'s.

    Clocks measured under the limit of `origin` do not hold under another. Raises `InputError`.
    """
    watts = gpu.power.tdp.si
    if watts >= origin.power.tdp.si:
        return gpu
    if MARK in origin.name:
        raise InputError(
            f"'{origin.name}' is derived already; say the cap in its name, '{base_name(origin.name)}@...W'"
        )
    whole = gpu.power.model_copy(update={"tdp": origin.power.tdp})
    made = throttled(gpu.model_copy(update={"power": whole}), watts, drawn=drawn)
    return made.model_copy(update={"power": gpu.power.model_copy(update={"rated_tdp": origin.power.tdp})})


_FORMS = "a power cap is written 500W, a clock limit 1410MHz"


def is_slice(gpu: GPUSpec) -> bool:
    """True if the GPU is a slice of one (MIG), which has no links of its own."""
    return any(not (_POWER.fullmatch(part) or _CLOCK.fullmatch(part)) for part in gpu.name.split(MARK)[1:])


def slice_sms(gpu: GPUSpec, profile: MigProfile) -> int:
    """SMs of a slice: as listed; else a one-slice profile's SMs per compute slice, else an even share rounded down.

    All compute slices together have all SMs where the driver's figure is not known (it is less on the A100).
    """
    if profile.sm_count is not None:
        return int(profile.sm_count.si)
    total = int(gpu.compute.sm_count.si)
    slices = max(one.compute_slices for one in gpu.mig_profiles)
    if profile.compute_slices == slices:
        return total
    known = [int(one.sm_count.si) for one in gpu.mig_profiles if one.compute_slices == 1 and one.sm_count is not None]
    parts = max(one.memory_slices for one in gpu.mig_profiles)
    each = min(known, default=total // parts // 2 * 2)  # SMs come in pairs
    return each * profile.compute_slices
