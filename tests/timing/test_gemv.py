"""Products of a matrix with a few vectors, and attention whose scores pass memory, as llama.cpp runs them."""

import numpy as np
import pytest

from simgpu import load_timer

NAMES = ("rtx-4090", "rtx-3070", "a100-sxm-80gb", "l4", "apple-m2-ultra-76c")


@pytest.mark.parametrize("name", NAMES)
def test_no_matrix_is_read_faster_than_memory_allows(name):
    timer = load_timer(name)
    for stored, size in ((None, 2.0), ("q8_0", 34 / 32), ("q4_k", 0.5625)):
        found = timer.matrix.gemv(1, [4096, 14336, 128256], 4096, weights=stored)
        light = np.array([4096, 14336, 128256]) * 4096 * size / timer.gpu.memory.bandwidth.si
        assert (found.seconds > light).all()
        assert (found.seconds < 40 * light).all()


def test_narrower_weights_take_less_time_but_not_in_proportion():
    timer = load_timer("a100-sxm-80gb")
    wide, half, quarter = (float(timer.matrix.gemv(1, 14336, 4096, weights=s).seconds) for s in (None, "q8_0", "q4_k"))
    assert wide > half > quarter
    assert quarter > wide * 4.5 / 16  # unpacking and launches do not shrink


def test_time_grows_with_vectors_weights_and_their_length():
    timer = load_timer("rtx-4090")
    assert float(timer.matrix.gemv(8, 4096, 4096).seconds) >= float(timer.matrix.gemv(1, 4096, 4096).seconds)
    assert (np.diff(timer.matrix.gemv(1, [512, 1024, 4096, 65536], 4096).seconds) > 0).all()
    assert (np.diff(timer.matrix.gemv(1, 4096, [512, 1024, 4096, 65536]).seconds) > 0).all()


def test_two_kernels_of_scores_and_values_are_slower_than_one_and_do_not_speed_up_with_the_gpu():
    slow, fast = load_timer("rtx-3090"), load_timer("h100-sxm")
    for timer in (slow, fast):
        times = timer.attention.unfused(1, [1024, 4096, 32768], 8, 256).seconds
        assert (np.diff(times) > 0).all()
        cache = np.array([1024, 4096, 32768]) * 8 * 256 * 2 / timer.gpu.memory.bandwidth.si
        assert (times > cache).all()
    long = [float(timer.attention.unfused(1, 131072, 8, 256).seconds) for timer in (slow, fast)]
    assert long[0] == pytest.approx(long[1], rel=0.35)  # 3.6 times the bandwidth
