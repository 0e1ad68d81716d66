"""Constants of kernels and collectives: what of a datasheet good libraries reach, and what they add to it.

They are given under `kernel` in the files of GPUs and architectures and inherit GPU <- architecture <- its parent.
Constants that belong to a library of kernels stand under its name: `attention: {fa3: {...}}`; what a library does
not give, `default` of the same class gives. Every constant has a unit and a source, as every figure.

These classes are what a file may hold. What a kernel model reads of it, as plain numbers in SI units, are the classes
of `simgpu.timing.constants`: their fields have the names given here, and a name that only one side has is an error.
"""

from pydantic import Field

from simgpu.hardware.figure import Bandwidth, Bytes, Count, EnergyPerFlop, Fraction, Number, Ratio, Seconds, Spec


class GemmFigures(Spec):
    """Tiled matrix multiplication, see `simgpu.timing.gemm.gemm_time`.

    Where neither a GPU nor its architecture gives `clock_fraction`, it and `throttle` follow from the power limit
    (`simgpu.timing.power.tensor_clock`).
    """

    compute_fraction: Fraction | None = None  # of the dense peak at the clock under load, inside a full tile
    memory_fraction: Fraction | None = None  # of the memory bandwidth
    launch_overhead: Seconds | None = None  # fixed time of a kernel, back to back in a stream or graph
    clock_fraction: Number | None = None  # clock under tensor load over the boost clock, in a short burst
    throttle: Ratio | None = None  # by how much a sustained run lengthens the clock period further
    training_slowdown: Ratio | None = (
        None  # clock of products in a loop over that inside training steps, under one power limit
    )
    throttle_time: Seconds | None = None  # kernel time at which half of the throttling is reached in a burst
    energy_per_flop: EnergyPerFlop | None = None  # of 16-bit tensor work at the highest clock
    burst_exponent: Ratio | None = None  # clock in a burst = (clock sustained) ** this, as fractions of boost
    l2_bytes_per_clock: Number | None = None  # that L2 delivers to one multiprocessor
    l2_bytes_per_flop: Number | None = None  # the same per 16-bit tensor FLOP, where an architecture does not give it
    k_step_clocks: Number | None = None  # of one dependent step of 128 bytes along k
    wave_latency: Seconds | None = None  # between one wave of tiles and the next
    split_latency: Seconds | None = None  # of the reduction after a split of k
    resident_fraction: Number | None = None  # of L2, that operands used again can fill
    resident_bytes_per_clock: Number | None = None  # per multiprocessor, from L2 when operands are resident
    tile_latency: Seconds | None = None  # to start and finish a tile of 128 x 128
    rows_covered: Ratio | None = None  # a tile has as many rows as the product has, up to this; 0: whatever is fastest
    smallest_columns: Number | None = None  # of the tiles that the library has
    largest_tile: Number | None = None  # elements of the largest tile
    largest_split: Number | None = None  # parts into which it splits k; 1: it never does
    convert_per_clock: Number | None = None  # narrow weights that a multiprocessor widens, none multiplied meanwhile
    quantise_bytes: Number | None = None  # moved per activation by the kernel that quantises them before
    quantise_overhead: Seconds | None = None  # fixed time of the kernel that quantises activations before
    cast_overhead: Seconds | None = None  # fixed time of a kernel that quantises by a scale that is given
    quantise_row: Seconds | None = None  # between the starts of two rows in that kernel, one block each
    quantise_step: Seconds | None = None  # of an activation along a row in that kernel
    vector_bytes_per_clock: Number | None = None  # of weights that a multiprocessor unpacks, few rows (gemv.py)
    vector_weights_per_clock: Number | None = None  # weights, of however many bytes, that it unpacks, few rows
    integer_flops_per_clock: Number | None = None  # of a multiprocessor, weights in blocks by 8-bit integers, many rows
    vector_exponent: Number | None = None  # how sharply the slower of memory and unpacking decides, few rows


class AttentionFigures(Spec):
    """Fused attention, see `simgpu.timing.attention.prefill_time` and `simgpu.timing.attention_decode.decode_time`."""

    compute_fraction: Fraction | None = None  # of the dense peak, inside a tile, 2-byte inputs, besides the softmax
    narrow_fraction: Fraction | None = None  # the same for 1-byte inputs
    wide_fraction: Fraction | None = None  # of it, that heads wider than 128 keep
    backward_fraction: Fraction | None = None  # of the forward rate, that the backward pass reaches
    softmax_clocks: Number | None = None  # of a multiprocessor per score, not hidden under the tensor cores
    memory_fraction: Fraction | None = None  # of the memory bandwidth, prefill (reads and writes)
    decode_memory_fraction: Fraction | None = None  # of the memory bandwidth, decode (reads)
    clock_exponent: Ratio | None = None  # clock under attention = (clock under matrix products) ** this, over boost
    resident_fraction: Number | None = None  # of L2, that operands used again can fill
    resident_bytes_per_clock: Number | None = None  # per multiprocessor, from L2
    tile_rows: Count | None = None  # queries of a block
    wide_tile_rows: Count | None = None  # the same for heads wider than 128
    tile_keys: Count | None = None  # keys of a step
    packed: Ratio | None = None  # 1 where a block takes the heads of a KV head together in prefill, else 0
    block_latency: Seconds | None = None  # to start and finish a block of heads of 128
    largest_split: Number | None = None  # parts into which prefill splits the keys; 1: it never does
    split_latency: Seconds | None = None  # of combining parts of the keys, prefill
    tail: Ratio | None = None  # of the longest block, that sticks out at the end of the list
    sorted_work: Ratio | None = None  # 1 where the library starts the long blocks of a sequence first, else 0
    lone_block: Fraction | None = None  # of a multiprocessor's rate, that one block alone on it reaches
    outside_window: Ratio | None = None  # of the time of a tile, that one outside the window takes; 1: windows ignored
    overlap_exponent: Number | None = None  # p of (span^p + memory^p)^(1/p): 1 they add up, large: they overlap
    overhead: Seconds | None = None  # of all kernels of the operator, prefill, with the append to the cache
    cast_overhead: Seconds | None = None  # of converting new keys and values to a narrower cache, prefill
    uneven_overhead: Seconds | None = None  # of padding and cutting where keys and values differ in width
    decode_overhead: Seconds | None = None  # as `overhead`, decode
    decode_cast_overhead: Seconds | None = None  # as `cast_overhead`, decode
    decode_wide_overhead: Seconds | None = None  # further for heads of 256, decode
    decode_tile_rows: Count | None = None  # rows that a block multiplies in decode, however few queries it has
    decode_largest_rows: Count | None = None  # of the largest tile that decode uses where heads share a KV head
    decode_slowdown: Number | None = None  # time of a tile in decode over its time in prefill
    planned_keys: Ratio | None = None  # of a block in FlashAttention's plan of splitting the cache; 0: the best split
    decode_split_latency: Seconds | None = None  # of combining parts of the keys, decode
    decode_overlap_exponent: Number | None = None  # as `overlap_exponent`, decode
    block_bytes_per_clock: Number | None = None  # that one block can load
    wave_latency: Seconds | None = None  # of a wave of decode blocks
    narrow_slowdown: Ratio | None = None  # of steps and waves of decode with a cache of 1 byte per element
    small_group: Ratio | None = None  # heads per KV head below which decode leaves the tensor cores
    small_group_fraction: Ratio | None = None  # of a wave's latency, that those decodes have
    launch_overhead: Seconds | None = None  # of each of the kernels that are not fused
    cache_bandwidth: Bandwidth | None = None  # at which kernels that are not fused work through a cache, at any GPU


class StreamFigures(Spec):
    """Normalisation, softmax, elementwise and other memory-bound kernels, see `simgpu.timing.vector`."""

    memory_fraction: Fraction | None = None  # of the memory bandwidth, large streams
    launch_overhead: Seconds | None = None  # of each kernel, by its time on the GPU
    host_overhead: Seconds | None = None  # between call and launch, where the host's clock times it
    host_tail: Seconds | None = None  # what the host still does after the launch, in the shade of the kernel
    memory_latency: Seconds | None = None  # a trip to DRAM with what a thread does around it
    l2_latency_fraction: Fraction | None = None  # of that, for a trip that ends in L2
    threads_per_sm: Number | None = None  # resident at a time
    lanes_per_sm: Number | None = None  # instructions of threads that an SM issues in a clock
    special_per_sm: Number | None = None  # results of the special function units in a clock
    l2_bytes_per_clock: Number | None = None  # that an SM moves to and from L2 when all do
    sm_bytes_per_clock: Number | None = None  # most that the port of one SM carries
    l2_memory_ratio: Number | None = None  # L2 bandwidth over memory bandwidth, at least
    l2_fraction: Number | None = None  # of L2 that holds data for reuse: half where it is two partitions
    l2_sharpness: Number | None = None  # how sharply hits end between kernels when tensors outgrow it
    reread_sharpness: Number | None = None  # the same for rows that a kernel reads again
    overlap: Number | None = None  # exponent of the smooth maximum of memory, latency and instructions: rows
    flat_overlap: Number | None = None  # the same for kernels whose blocks wait for nothing
    block_threads: Number | None = None  # most threads of a block that handles a row
    normalization_threads: Number | None = None  # the same for normalisation
    rope_threads: Number | None = None  # the same for rotary positions
    vector_bytes: Number | None = None  # loaded by a thread at once
    on_chip_bytes: Bytes | None = None  # longest row kept in registers or shared memory between passes
    load_instructions: Number | None = None  # of a thread for each load, beside the arithmetic
    strided_instructions: Number | None = None  # of a thread for each element of a tensor with strides
    gather_instructions: Number | None = None  # of a thread to find the row of an element
    host_link_fraction: Fraction | None = None  # of the host link, pinned memory
    pageable_fraction: Fraction | None = None  # of the host link, pageable memory
    copy_overhead: Seconds | None = None  # of a copy between host and GPU


class ExpertFigures(Spec):
    """Grouped matrix multiplications of experts, see `simgpu.timing.moe`; what is not given is as in `gemm`."""

    compute_fraction: Fraction | None = None  # of the dense peak at the clock under load, inside a full tile
    memory_fraction: Fraction | None = None  # of the memory bandwidth
    l2_bytes_per_clock: Number | None = None  # that L2 delivers to one multiprocessor
    k_step_clocks: Number | None = None  # of one dependent step of 128 bytes along k
    wave_latency: Seconds | None = None  # between one wave of tiles and the next
    resident_bytes_per_clock: Number | None = None  # per multiprocessor, from L2 when weights are resident
    fixed_time: Seconds | None = None  # of the chain of small kernels: routing, permutation, activation
    visit_time: Seconds | None = None  # of routing, for each (token, expert) pair of all ranks
    token_passes: Number | None = None  # over the rows of all tokens that enter, whoever has their experts
    remote_passes: Ratio | None = None  # the same of (token, expert) pairs of other ranks, which it keeps rows for
    permute_passes: Number | None = None  # over the tokens' rows, to bring them to the experts and back
    expert_time: Seconds | None = None  # of routing and sorting, for each expert of the layer
    convert_per_clock: Number | None = None  # narrow weights that a multiprocessor widens, none multiplied meanwhile
    most_rows: Number | None = None  # of a tile


class ScanFigures(Spec):
    """Scans over a state and the indexer of sparse attention, see `simgpu.timing.scan`."""

    compute_fraction: Fraction | None = None  # of the dense 16-bit peak, products inside chunks
    memory_fraction: Fraction | None = None  # of the memory bandwidth, many tokens
    launch_overhead: Seconds | None = None  # of all kernels of a scan of many tokens
    chunk_latency: Seconds | None = None  # of a chunk behind the one before it
    step_memory_fraction: Fraction | None = None  # of the memory bandwidth, states of a few tokens
    step_overhead: Seconds | None = None  # of the kernel of a few tokens
    step_bytes_per_clock: Number | None = None  # per multiprocessor, states of a few tokens that lie in L2, both ways
    index_fraction: Fraction | None = None  # of the dense fp8 peak, scores of the indexer
    index_memory_fraction: Fraction | None = None  # of the memory bandwidth, scores and the choice of the best
    choice_latency: Seconds | None = None  # of the choice of one query token, whatever it sees
    choice_key_time: Seconds | None = None  # and for each key it sees
    picked_fraction: Fraction | None = None  # of the dense 16-bit peak, attention of prompts over picked keys
    picked_few_fraction: Fraction | None = None  # the same of decodes, where their kernel fills all places too
    picked_heads: Number | None = None  # that share a block of that kernel; fewer take as long
    picked_cast_per_clock: Number | None = None  # elements of an 8-bit cache that a multiprocessor widens, nothing else
    gathered_fraction: Fraction | None = None  # of the memory bandwidth, keys that trtllm-gen gathers
    gathered_products: Fraction | None = None  # of the dense peak of the cache's type, its products


class CollectiveConstants(Spec):
    """What a GPU and its library bring to a collective, see `simgpu.timing.collectives.model`."""

    # what NCCL reckons with when it chooses (src/graph/tuning.cc), by generation
    planned_ll_bandwidth: Bandwidth | None = None  # most that all channels together carry with protocol LL
    planned_ll128_bandwidth: Bandwidth | None = None  # most that one channel carries with LL128
    planned_tree_bandwidth: Bandwidth | None = None  # most that one channel of a tree carries
    nvls_efficiency: Number | None = None  # of the NVLink rate in NVLS; 0.001 stands for GPUs without it
    nvls_speed: Bandwidth | None = None  # most that one NVLS channel can have
    # channels, each a thread block on one SM
    nvls_channels: Count | None = None  # of NVLS
    nvls_network_bandwidth: Bandwidth | None = None  # most that one of them passes on between nodes
    channels: Count | None = None  # most that a collective uses
    channel_bandwidth: Bandwidth | None = None  # link rate for which NCCL makes one channel
    # fixed times
    launch_latency: Seconds | None = None  # of a collective with next to no bytes, without its hops
    ll_spread: Seconds | None = None  # what LL adds once a message fills more than one channel
    ll_pass: Seconds | None = None  # of one pass of all threads of a channel over their lines, protocol LL
    ll128_latency: Seconds | None = None  # what LL128 adds to a launch
    ll128_ring: Seconds | None = None  # what LL128 adds further to a ring
    simple_latency: Seconds | None = None  # what Simple adds to a launch
    simple_step: Seconds | None = None  # what Simple adds to every hop (fence and flag)
    nvls_latency: Seconds | None = None  # of an NVLS collective with next to no bytes
    pair_latency: Seconds | None = None  # what point-to-point operations add to a launch
    pair_peer_latency: Seconds | None = None  # for each peer
    pair_step: Seconds | None = None  # what their protocol Simple adds, once a message is large
    pair_bytes: Bytes | None = None  # message at which half of that is paid
    # rates
    ll_fraction: Number | None = None  # measured rate of LL channels over the planned one
    ll128_fraction: Number | None = None  # measured rate of LL128 channels over the planned one
    ll_blend: Number | None = None  # exponent that blends pass-bound and rate-bound LL
    link_fraction: Fraction | None = None  # of the NVLink payload rate, protocol Simple
    pair_fraction: Fraction | None = None  # of that, point-to-point operations
    pair_bandwidth: Bandwidth | None = (
        None  # most that all channels pass on in an all-to-all, a rank's own part included
    )
    nvls_fraction: Fraction | None = None  # of what NCCL reckons with
    copy_fraction: Fraction | None = None  # of the memory bandwidth, copying a rank's own part
    # filling of the pipeline
    fill: Number | None = None  # of the time of a slice, rings and trees
    pair_fill: Number | None = None
    nvls_fill: Number | None = None
    slice_bytes: Bytes | None = None  # of a channel
    nvls_slice_bytes: Bytes | None = None
    # kernels of serving frameworks
    custom_latency: Seconds | None = None  # of their one-shot or two-shot all-reduce with next to no bytes
    custom_step: Seconds | None = None  # for each peer
    custom_barrier: Seconds | None = None  # what the second half of two shots adds
    one_shot_fraction: Fraction | None = None  # of the link's payload rate
    two_shot_fraction: Fraction | None = None
    custom_limit: Bytes | None = None  # larger messages go to NCCL
    one_shot_limit: Bytes | None = None  # messages up to this over the number of GPUs go in one shot; in pairs all do


class PowerFigures(Spec):
    """What a board draws, as shares of its rated power, see `simgpu.timing.power.Levels`."""

    idle: Ratio | None = None  # with no work at all, clocks down
    waiting: Ratio | None = None  # in a job, while no kernel runs
    product: Ratio | None = None  # what a running matrix product or convolution adds to waiting, without its operations
    attention: Ratio | None = None  # the same of attention and scans, whose exponentials run on the vector units
    experts: Ratio | None = None  # of experts' products, whose tiles are mostly padding
    streaming: Ratio | None = None  # of kernels that stream, and of what the host starts for each sequence
    communication: Ratio | None = None  # of a collective that no kernel hides
    memory: Ratio | None = None  # of the full bandwidth of the memory
    padding: Number | None = None  # FLOPs that tiles of experts issue for one of theirs: few rows fill a tile


class StepFigures(Spec):
    """What a user's own steps and logs say of a framework or an engine on a GPU.

    They come from `simgpu calibrate --step` and `simgpu observe`.
    """

    slowdown: Number | None = None  # of all kernels, over what their own constants make
    runs: Count | None = None  # measured steps behind it
    spread: Number | None = None  # of runs that were left out about their predictions (sd of the logarithm)
    experts: Number | None = None  # of kernels of experts, beside that of all
    arithmetic: Number | None = None  # of kernels that arithmetic binds, beside that of all
    host: Number | None = None  # of the host's time: of a layer, a step, a sequence
    front: Number | None = None  # of what a request spends outside the engine before its first token


class KernelConstants(Spec):
    """All constants of a GPU or an architecture, by class of operator and by library."""

    compute_fraction: Fraction | None = None  # of the dense peak, large matrix multiplications
    memory_fraction: Fraction | None = None  # of the memory bandwidth, large streams
    launch_overhead: Seconds | None = None  # fixed time of a kernel, back to back in a stream or graph
    gemm: dict[str, GemmFigures] = Field(default={})
    attention: dict[str, AttentionFigures] = Field(default={})
    vector: dict[str, StreamFigures] = Field(default={})
    moe: dict[str, ExpertFigures] = Field(default={})
    scan: dict[str, ScanFigures] = Field(default={})
    collective: dict[str, CollectiveConstants] = Field(default={})
    power: dict[str, PowerFigures] = Field(default={})
    step: dict[str, StepFigures] = Field(default={})  # by framework or engine


__all__ = [
    "AttentionFigures",
    "Bytes",
    "CollectiveConstants",
    "ExpertFigures",
    "GemmFigures",
    "KernelConstants",
    "Number",
    "PowerFigures",
    "ScanFigures",
    "StepFigures",
    "StreamFigures",
]
