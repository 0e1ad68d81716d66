"""Which tables are known: what each must have and which adapter predicts it. A new kind of table is an entry here."""

from __future__ import annotations

from dataclasses import replace

from simgpu.lab.validation import attention, gemm, inference, moe, network, training, vector
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.tables import Columns

TARGETS = ("kernels", "collectives", "training", "inference")
"""What `simgpu validate` can be asked for, beside all of them."""

_ATTENTION = Columns(
    positive=("batch_size", "q_len", "num_heads", "num_kv_heads", "head_dim", "v_head_dim", "latency_s"),
    numbers=("past_kv_len", "window_size"),
    words=("gpu", "attn_dtype", "kv_cache_dtype", "kernel_source"),
    optional=("framework", "version", "suspicious"),
)
_PUBLISHED_ATTENTION = replace(_ATTENTION, optional=(*_ATTENTION.optional, "causal", "citation"))
_MODEL = ("hidden_size", "num_heads", "ffn_size", "tp_size")


def _collective(link: str = "", *words: str, optional: tuple[str, ...] = (), nodes: bool = True) -> Columns:
    """Columns of a table of collectives; `link` names the one that says what joins the GPUs."""
    return Columns(
        positive=("num_gpus", "message_bytes", "latency_s", *(("num_nodes",) if nodes else ())),
        words=("gpu", "collective", *words),
        optional=("suspicious", "dtype", *optional),
        renamed={"link": link, "network": "inter_node_link"},
    )


_SHAPE = ("num_layers", "num_heads", "ffn_size", "seq_len")
_DEGREES = ("tp_size", "pp_size", "dp_size", "cp_size", "virtual_pp", "micro_batch_size")
_WHOLE = ("global_batch_size", "step_time_s")
_GRADES = ("activation_recompute", "sequence_parallel")


def _training(positive: tuple[str, ...], words: tuple[str, ...], optional: tuple[str, ...], *sparse: str) -> Columns:
    """Columns of a table of whole steps."""
    return Columns(positive=positive, words=("gpu", *words), optional=("suspicious", *optional), sparse=sparse)


TRAINING: dict[str, Adapter] = {
    "llmfoundry_training": Adapter(
        "training",
        _training(
            (*_SHAPE, "d_model", "vocab_size", "num_gpus", "micro_batch_size", "global_batch_size", "step_time_s"),
            ("model", "precision", "fsdp_mixed_precision", "sharding_strategy", "activation_checkpointing"),
            ("activation_cpu_offload", "interconnect"),
            "gpus_per_node",
        ),
        training.foundry,
    ),
    "megatron_training": Adapter(
        "training",
        _training(
            (*_SHAPE, "hidden_size", "vocab_size"),
            ("source", "model", "dtype"),
            (*_GRADES, "sharding"),
            *(*_DEGREES, "num_gpus", "global_batch_size", "num_kv_heads", "step_time_s", "model_flops_per_s_per_gpu"),
        ),
        training.megatron,
    ),
    "torchtitan_training": Adapter(
        "training",
        _training(
            (*_SHAPE, "hidden_size", "num_kv_heads", "vocab_size", "num_gpus", "local_batch_size", *_WHOLE),
            ("model", "torch_compile"),
            ("float8", "async_tp", "activation_checkpointing", "pp_schedule", "interconnect"),
            *("gpus_per_node", "tp_size", "pp_size", "cp_size", "memory_bytes_per_gpu"),
        ),
        training.torchtitan,
    ),
    "neusight_e2e": Adapter(
        "training",
        _training(
            (*_SHAPE, "hidden_size", "vocab_size", "global_batch", "num_gpus", "latency_s"),
            ("model", "mode", "dtype"),
            ("torch_compile",),
            *("dp_size", "tp_size", "pp_size", "num_microbatches"),
        ),
        training.neusight,
    ),
    "mlengineering_train_steps": Adapter(
        "training",
        _training(
            (*_SHAPE, "hidden_size", "num_kv_heads", "vocab_size", "batch_size", "num_gpus", "latency_s"),
            ("model", "dtype", "workload", "gradient_checkpointing", "mode"),
            ("link",),
        ),
        training.ml_engineering,
    ),
    "lambda_training": Adapter(
        "training",
        _training(
            ("num_gpus", "throughput_items_per_s"), ("task", "precision"), ("interconnect", "suite"), "global_batch"
        ),
        training.lambda_labs,
    ),
    "megatron_memory": Adapter(
        "training",
        _training(
            (*_SHAPE, "hidden_size", "global_batch_size"),
            ("source", "model"),
            _GRADES,
            *(name for name in _DEGREES if name != "cp_size"),
            *("param_and_optimizer_bytes", "activation_bytes", "relative_activation_memory"),
        ),
        training.memory,
    ),
}
"""Tables of whole training steps and of the memory they take."""

ADAPTERS: dict[str, Adapter] = {
    "aic_gemm": Adapter(
        "kernels",
        Columns(
            positive=("m", "n", "k", "latency_s"),
            words=("gpu", "dtype"),
            optional=("suspicious", "latency_trtllm_s", "kernel_source"),
        ),
        gemm.linear,
    ),
    "neusight_matmul_fp32": Adapter(
        "kernels",
        Columns(positive=("batch", "m", "n", "k", "latency_s"), words=("gpu", "op", "dtype"), optional=("suspicious",)),
        gemm.single_precision,
    ),
    "mlengineering_mamf": Adapter(
        "kernels",
        Columns(positive=("m", "n", "k", "latency_s"), words=("gpu", "dtype"), optional=("suspicious",)),
        gemm.plain,
    ),
    "aic_context_attention": Adapter("kernels", _ATTENTION, attention.prefill),
    "aic_generation_attention": Adapter("kernels", _ATTENTION, attention.decode),
    "llmservingsim_attention": Adapter(
        "kernels",
        Columns(
            positive=("num_heads", "num_kv_heads", "head_dim", "latency_s"),
            numbers=("prefill_q_len", "prefill_past_kv_len", "num_decode_seqs", "decode_kv_len"),
            words=("gpu", "dtype"),
            optional=("suspicious", "model", "tp_size"),
        ),
        attention.mixed,
    ),
    "aic_moe": Adapter(
        "kernels",
        Columns(
            positive=(*moe.SHAPE, "latency_s"),
            words=("gpu", "dtype", "gated", "distribution"),
            optional=("suspicious", "kernel_source"),
        ),
        moe.layers,
    ),
    "vidur_ops": Adapter(
        "kernels",
        Columns(
            positive=("num_tokens", *_MODEL, "num_kv_heads", "vocab_size", "io_bytes", "latency_s"),
            words=("gpu", "op", "kind", "dtype", "gated_mlp"),
            optional=("suspicious", "model"),
            sparse=("gemm_n", "gemm_k"),
        ),
        vector.served,
    ),
    "llmservingsim_ops": Adapter(
        "kernels",
        Columns(
            positive=("num_tokens", "tp_size", "latency_s"),
            words=("gpu", "layer", "dtype"),
            optional=("suspicious", "model", "method"),
            sparse=("gemm_n", "gemm_k"),
        ),
        vector.profiled,
    ),
    "llmcompass_ops": Adapter(
        "kernels",
        Columns(
            positive=("m", "n", "io_bytes", "latency_s"),
            words=("gpu", "op", "dtype"),
            optional=("suspicious",),
            sparse=("k", "num_elements"),
        ),
        vector.host_timed,
    ),
    "llmcompass_transformer_layer": Adapter(
        "kernels",
        Columns(
            positive=("num_gpus", *_MODEL, "batch_size", "q_len", "kv_len", "latency_s"),
            words=("gpu", "op", "dtype"),
            optional=("suspicious", "phase", "model"),
        ),
        vector.one_layer,
    ),
    "neusight_vector_fp32": Adapter(
        "kernels",
        Columns(
            positive=("rows", "cols", "io_bytes", "latency_s"), words=("gpu", "op", "dtype"), optional=("suspicious",)
        ),
        vector.single_precision,
    ),
    "aic_nccl": Adapter("collectives", _collective("interconnect"), network.nccl_tests),
    "llmcompass_allreduce": Adapter("collectives", _collective("interconnect"), network.nccl_tests),
    "aic_custom_allreduce": Adapter(
        "collectives",
        _collective("", "cuda_graph", optional=("framework", "kernel_source"), nodes=False),
        network.served,
    ),
    "vidur_network": Adapter("collectives", _collective("intra_node_link", optional=("sku",)), network.profiled),
    "mlengineering_collectives": Adapter(
        "collectives", _collective("intra_node_link", optional=("tool", "nccl_algo")), network.nccl_tests
    ),
}

PUBLISHED: dict[str, Adapter] = {
    "published_gemm": Adapter(
        "kernels",
        Columns(
            positive=("m", "n", "k", "latency_s"),
            words=("gpu", "dtype"),
            optional=("suspicious", "kernel_source", "citation"),
        ),
        gemm.plain,
    ),
    "published_attention": Adapter("kernels", _PUBLISHED_ATTENTION, attention.prefill),
    "published_stream": Adapter(
        "kernels",
        Columns(
            positive=("elements", "latency_s"),
            words=("gpu", "op", "dtype"),
            optional=("suspicious", "tool", "citation"),
        ),
        vector.streams,
    ),
    "published_collectives": Adapter(
        "collectives", _collective("interconnect", optional=("tool", "citation")), network.nccl_tests
    ),
    "published_training": Adapter(
        "training",
        replace(
            _training(
                (*_SHAPE, "hidden_size", "vocab_size", "num_gpus", *_WHOLE),
                ("source", "model", "kind", "dtype", "framework", "gradients", "reduce"),
                (*_GRADES, "overlap", "flash", "context", "order", "interconnect", "note", "citation"),
                *(*_DEGREES, "num_kv_heads"),
            ),
            numbers=("zero",),
        ),
        training.stated,
    ),
    "published_training_memory": Adapter(
        "training",
        replace(TRAINING["megatron_memory"].columns, optional=("suspicious", *_GRADES, "citation")),
        training.memory,
    ),
}
"""Tables that come with simgpu: figures from papers, vendors' pages and issue trackers, each row with its address."""

_SIDES = ("", "prefill_", "decode_")
_SPLITS = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")

INFERENCE: dict[str, Adapter] = {
    "llamacpp_inference": Adapter(
        "inference",
        Columns(
            positive=("num_gpus", "num_tokens", "tokens_per_s"),
            words=("gpu", "model", "quant", "phase"),
            optional=("suspicious",),
        ),
        inference.llama_cpp,
        measured="tokens_per_s",
    ),
    "aic_e2e_inference": Adapter(
        "inference",
        Columns(
            positive=("input_tokens", "output_tokens", "ttft_s", "tpot_s"),
            words=("gpu", "model", "framework"),
            optional=("suspicious", "version", "precision", "gemm_quant_mode", "moe_quant_mode", "mode", "data_source"),
            loose=(
                *("concurrency", "batch_size", "prefill_num_workers", "decode_num_workers"),
                *(f"{side}{name}" for side in _SIDES for name in _SPLITS),
            ),
        ),
        inference.load_test,
    ),
}
"""Tables of whole inference runs."""

for _name, _like in (("published_llamacpp", "llamacpp_inference"), ("published_serving", "aic_e2e_inference")):
    _columns = INFERENCE[_like].columns
    PUBLISHED[_name] = replace(INFERENCE[_like], columns=replace(_columns, optional=(*_columns.optional, "citation")))

ALSO: dict[str, Adapter] = {
    "neusight_e2e": Adapter("inference", TRAINING["neusight_e2e"].columns, inference.neusight),
    "mlengineering_train_steps": Adapter(
        "inference", TRAINING["mlengineering_train_steps"].columns, inference.ml_engineering
    ),
    **{
        name: replace(ADAPTERS[name], target="inference")
        for name in ("vidur_ops", "llmcompass_transformer_layer", "llmservingsim_ops", "llmservingsim_attention")
    },
}
"""Tables that 'validate inference' reads besides: operators of inference, and what others hold of whole runs."""

ADAPTERS |= TRAINING | PUBLISHED | INFERENCE

ELSEWHERE = {
    "llmservingsim_requests": "a server under a load of its own, request by request",
    "llmservingsim_serving_summary": "a server under a load of its own, request by request",
    "mlengineering_links": "link rates, not operators",
    "simai_busbw_ratio": "factors of another simulator, not measurements",
}
"""Tables of the shared folder that hold no single kernel or collective, and what they hold instead."""
