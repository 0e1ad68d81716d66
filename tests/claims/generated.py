"""Rows of claims made from physics, and errors planted in them."""

import math
import random

from simgpu.catalog import Catalogue
from simgpu.claims.bench import Bench
from simgpu.claims.bounds import bounds
from simgpu.claims.check import check_entry
from simgpu.claims.facts import least_weights
from simgpu.claims.finding import FALSE
from simgpu.claims.reading import entry_of
from simgpu.claims.readings import readings
from simgpu.documents import Document

GPUS = (
    "a100-sxm-80gb",
    "h100-sxm",
    "h200-sxm",
    "l4",
    "l40s",
    "rtx-3090",
    "rtx-4090",
    "rtx-5090",
    "b200-sxm",
    "a10",
    "t4",
)
MODELS = ("llama-3.1-8b", "llama-2-13b", "qwen2.5-14b", "qwen3-32b", "llama-3.3-70b", "mistral-7b")
SPECS = {
    "memory_gb": 1e9,
    "memory_bandwidth_gb_per_s": 1e9,
    "fp16_tensor_tflops": 1e12,
    "int8_tops": 1e12,
    "tdp_w": 1.0,
    "fp32_tflops": 1e12,
    "boost_mhz": 1e6,
    "nvlink_gb_per_s": 1e9,
    "cuda_cores": 1.0,
    "l2_mb": 1e6,
}
NAMES = {
    "memory_gb": "memory",
    "memory_bandwidth_gb_per_s": "memory_bandwidth",
    "fp16_tensor_tflops": "fp16_tensor",
    "int8_tops": "int8_tensor",
    "tdp_w": "tdp",
    "fp32_tflops": "fp32",
    "boost_mhz": "boost",
    "l2_mb": "l2",
    "nvlink_gb_per_s": "nvlink",
    "cuda_cores": "cuda_cores",
}
BENCH = Bench(Catalogue())


def digits(value, count):
    """A number as printed with so many digits."""
    if value == 0:
        return "0"
    places = count - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:.{max(0, places)}f}"


def found(data):
    """Findings of an entry."""
    return check_entry({"id": "row", "source": "made up", **data}, BENCH).findings


def alarms(data):
    return [one for one in found(data) if one.verdict in FALSE]


# ---- clean rows ------------------------------------------------------------------------------------------


def cost(rng):
    rate, rent = rng.uniform(20, 20_000), rng.uniform(0.2, 12)
    rate_text, rent_text = digits(rate, 3), digits(rent, 3)
    usd = float(rent_text) / float(rate_text) / 3600 * 1e6
    return {
        "kind": "cost",
        "rows": [{"tokens_per_s": rate_text, "usd_per_h": rent_text, "usd_per_m": digits(usd, rng.choice((2, 3)))}],
    }


def owned(rng):
    price, watts, kwh, years = (
        rng.randint(15, 400) * 100,
        rng.randint(7, 100) * 10,
        round(rng.uniform(0.05, 0.4), 2),
        rng.randint(1, 6),
    )
    energy = watts / 1000 * 8760 * kwh
    return {
        "kind": "cost",
        "rows": [
            {
                "price_usd": price,
                "power_w": watts,
                "electricity_usd_per_kwh": kwh,
                "years": years,
                "energy_usd_per_year": digits(energy, 3),
                "tco_usd": digits(price + years * energy, 3),
            }
        ],
    }


def spec(rng):
    gpu, column = rng.choice(GPUS), rng.choice(list(SPECS))
    usual = [one.value for one in readings(BENCH.catalogue, gpu, NAMES[column]) if one.usual]
    if not usual:
        return spec(rng)
    count = 5 if column == "cuda_cores" else rng.choice((3, 4))
    return {"kind": "spec", "rows": [{"gpu": gpu, column: digits(usual[0] / SPECS[column], count)}]}


def memory(rng):
    name, (precision, size) = rng.choice(MODELS), rng.choice((("fp16", 2), ("int8", 1), ("int4", 0.5)))
    model, seq, batch = BENCH.catalogue.model(name), 2 ** rng.randint(8, 14), rng.choice((1, 4, 16))
    weights = model.parameters * size / 1e9
    kv = 2 * model.layers * model.kv_heads * model.head_dim * 2 * seq * batch / 1e9
    return {
        "kind": "memory",
        "rows": [
            {
                "model": name,
                "precision": precision,
                "seq": seq,
                "batch": batch,
                "weights_gb": digits(weights, 3),
                "kv_gb": digits(kv, 2),
                "total_gb": digits(weights + kv, 3),
            }
        ],
    }


def scaling(rng):
    whole, talk, gpus = rng.uniform(0.5, 20), rng.uniform(0.05, 10), rng.choice((2, 4, 8))
    part = whole / gpus
    return {
        "kind": "tp_scaling",
        "rows": [
            {
                "gpus": gpus,
                "gemm_time_ms": digits(whole, 4),
                "per_gpu_gemm_ms": digits(part, 3),
                "communication_ms": digits(talk, 3),
                "step_total_ms": digits(part + talk, 3),
                "efficiency_percent": digits(100 * part / (part + talk), 2),
            }
        ],
    }


def kernel(rng):
    gpu, (m, n, k) = (
        rng.choice(GPUS[:8]),
        rng.choice(((4096, 4096, 4096), (8192, 8192, 8192), (512, 4096, 4096), (1, 4096, 14336))),
    )
    scenario = {
        "cluster": gpu,
        "dtype": "fp16",
        "workload": {"kind": "operators", "operators": [{"op": "matmul", "name": "gemm", "m": m, "n": n, "k": k}]},
    }
    row = BENCH.run(scenario)
    seconds = rng.uniform(row["step_s_p10"], row["step_s_p90"])
    text = digits(seconds * 1e3, 3)
    rate = 2 * m * n * k / float(text) * 1e3 / 1e12
    return {
        "kind": "kernel",
        "rows": [
            {
                "gpu": gpu,
                "precision": "fp16",
                "m": m,
                "n": n,
                "k": k,
                "time_ms": text,
                "achieved_tflops": digits(rate, 3),
            }
        ],
    }


def decode(rng):
    gpu, (name, precision, runtime) = (
        rng.choice(("h100-sxm", "a100-sxm-80gb", "rtx-4090")),
        rng.choice(
            (("llama-3.1-8b", "fp16", "vllm"), ("mistral-7b", "q4_k_m", "llama.cpp"), ("qwen3-8b", "fp16", "vllm"))
        ),
    )
    prompt = rng.choice((128, 1024))
    job = {"kind": "inference", "batch": 1, "prompt": prompt, "output": 256, "runtime": runtime}
    if precision != "fp16":
        job["precision"] = precision
    row = BENCH.run({"model": name, "cluster": gpu, "dtype": "fp16", "plan": {}, "workload": job})
    rate = rng.uniform(row["output_tokens_per_s_p10"], row["output_tokens_per_s_p90"])
    rate = min(rate, 0.98 * row["speed_of_light_tokens_per_s_per_user"])
    return {
        "kind": "decode",
        "rows": [
            {
                "gpu": gpu,
                "model": name,
                "precision": precision,
                "runtime": runtime,
                "prompt": prompt,
                "output": 256,
                "tokens_per_s": digits(rate, 3),
            }
        ],
    }


def power(rng):
    gpu = rng.choice(GPUS)
    tdp = BENCH.catalogue.spec("gpus", gpu).power.tdp.si
    kwh, budget = round(rng.uniform(0.05, 0.3), 2), rng.randint(2, 40) * 1000
    return {
        "kind": "power",
        "rows": [
            {
                "gpu": gpu,
                "electricity_usd_per_kwh": kwh,
                "budget_w": budget,
                "tdp_w": digits(tdp, 4),
                "energy_usd_per_year": digits(tdp / 1000 * 8760 * kwh, 3),
                "gpus_per_budget": str(int(budget // tdp)),
            }
        ],
    }


CLEAN = (cost, owned, spec, memory, scaling, kernel, decode, power)


# ---- planted errors: an entry, and words that the explanation or the reason must hold ---------------------


def x1000(rng):
    data = cost(rng)
    row = data["rows"][0]
    row["usd_per_m"] = digits(float(row["usd_per_m"]) / 1000, 2)
    return data, ("thousand",)


def x10(rng):
    data, column = rng.choice(
        ((cost(rng), "usd_per_m"), (owned(rng), "tco_usd"), (scaling(rng), "step_total_ms"), (spec(rng), ""))
    )
    row = data["rows"][0]
    column = column or next(key for key in row if key != "gpu")
    if float(row[column]) == 0:
        return x10(rng)
    value = float(row[column]) * rng.choice((10, 0.1))
    row[column] = digits(value, 3)
    return data, ("ten",)


def both_directions(rng):
    gpu = rng.choice(GPUS)
    pcie = next(one.value for one in readings(BENCH.catalogue, gpu, "pcie") if one.usual)
    return {"kind": "spec", "rows": [{"gpu": gpu, "pcie_gb_per_s": digits(2 * pcie / 1e9, 3)}]}, ("both directions",)


def transfer_both(rng):
    gpu = rng.choice(("a100-sxm-80gb", "h100-sxm"))
    rate = next(
        one.value for one in readings(BENCH.catalogue, gpu, "interconnect") if one.convention == "both directions"
    )
    payload = 2 ** rng.randint(24, 30)
    row = {"gpu": gpu, "gpus": 2, "payload_bytes": payload, "time_ms": digits(payload / rate * 1e3, 3)}
    return {"kind": "collective", "rows": [row]}, ("both directions",)


def sparse(rng):
    gpu, (column, name) = (
        rng.choice(("a100-sxm-80gb", "h100-sxm", "l4", "l40s", "rtx-3090", "a10")),
        rng.choice(
            (("fp16_tensor_tflops", "fp16_tensor"), ("int8_tops", "int8_tensor"), ("bf16_tensor_tflops", "bf16_tensor"))
        ),
    )
    value = next(
        one.value
        for one in readings(BENCH.catalogue, gpu, name)
        if one.convention.startswith("with sparsity, sums in fp32") or one.convention == "with sparsity, sums in int32"
    )
    return {"kind": "spec", "rows": [{"gpu": gpu, column: digits(value / 1e12, 4)}]}, ("sparsity",)


def bits(rng):
    if rng.random() < 0.5:
        rate = rng.choice((100, 200, 400, 800))
        return {"kind": "spec", "rows": [{"line_rate_gbit_per_s": rate, "infiniband_gb_per_s": rate}]}, ("bits",)
    gpu = rng.choice(GPUS)
    value = readings(BENCH.catalogue, gpu, "memory_bandwidth")[0].value
    return {"kind": "spec", "rows": [{"gpu": gpu, "memory_bandwidth_gb_per_s": digits(8 * value / 1e9, 4)}]}, ("bits",)


def above_the_bound(rng):
    row = {
        "gpu": rng.choice(("h100-sxm", "a100-sxm-80gb", "l40s", "h200-sxm")),
        "model": rng.choice(("llama-3.1-8b", "llama-2-13b", "mistral-7b")),
        "precision": rng.choice(("fp16", "fp8", "q4_k_m")),
        "tokens_per_s": 1,
    }
    data = {"id": "row", "kind": "decode", "source": "made up", "rows": [row]}
    record = entry_of(data, Document("<claim>", data, {}), BENCH.catalogue).records[0]
    most = min(one.value for one in bounds(BENCH, record, "tokens_per_s", "decode"))
    row["tokens_per_s"] = digits(most * rng.uniform(1.1, 4), 3)
    return data, ("memory bandwidth",)


def does_not_fit(rng):
    while True:
        gpu, model, precision = rng.choice(GPUS), rng.choice(MODELS), rng.choice(("fp16", "int8", "int4", "q4_k_m"))
        room = BENCH.catalogue.spec("gpus", gpu).memory.capacity.si
        if least_weights(BENCH, model, precision) > 1.05 * room:
            rate = digits(rng.uniform(2, 2000), 2)
            row = {"gpu": gpu, "model": model, "precision": precision, "tokens_per_s": rate}
            return {"kind": rng.choice(("decode", "serving")), "rows": [row]}, ("fit",)


def wrong_winner(rng):
    rates, rents = [rng.uniform(100, 10_000) for _ in range(2)], [rng.uniform(0.3, 8) for _ in range(2)]
    usd = [rent / rate / 3600 * 1e6 for rent, rate in zip(rents, rates, strict=True)]
    if 0.5 < usd[0] / usd[1] < 2:
        return wrong_winner(rng)
    names = ("h100-sxm", "l4")
    dearer, factor = names[usd[0] < usd[1]], max(usd) / min(usd)
    columns = ["label"]
    columns += [
        {"is": "tokens_per_s", "gpu": name, "usd_per_h": digits(rent, 3)}
        for name, rent in zip(names, rents, strict=True)
    ]
    columns += [{"is": "usd_per_m", "gpu": name} for name in names]
    columns.append({"winner": "usd_per_m", "among": list(names), "better": "lower"})
    row = ["row", *(digits(one, 3) for one in rates), *(digits(one, 3) for one in usd), f"{dearer} {digits(factor, 2)}"]
    return {"kind": "cost", "columns": columns, "rows": [row]}, ("two columns give",)


PLANTED = {
    "x1000": x1000,
    "x10": x10,
    "both directions": both_directions,
    "transfer of both directions": transfer_both,
    "sparse peak": sparse,
    "bits for bytes": bits,
    "above the bound": above_the_bound,
    "does not fit": does_not_fit,
    "wrong winner": wrong_winner,
}


def caught(kind, rng):
    """True if a planted error is found with its explanation; else what was said."""
    data, words = PLANTED[kind](rng)
    said = [f"{one.explanation} {one.reason}" for one in alarms(data)]
    return any(all(word in text for word in words) for text in said), (data, said)


def rng_of(seed):
    return random.Random(seed)
