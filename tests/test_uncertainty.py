"""Error bars: the table they come from, what is used where it says nothing, and how they add up over a step."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import FOLDER, needs, predicted, together

from simgpu.analysis.uncertainty import range_of
from simgpu.catalog import Catalogue
from simgpu.lab.validation import residuals
from simgpu.lab.validation import run as running
from simgpu.lab.validation.standing import library_of
from simgpu.timing import distance, uncertainty
from simgpu.timing.distance import OF
from simgpu.timing.kernels import Uncertainty
from simgpu.timing.uncertainty import (
    BOUNDS,
    STRATA,
    UNKNOWN,
    WholeRun,
    class_of,
    interval,
    residual,
    run_spread,
    spread,
)

measured = needs("aic_gemm")
pytestmark = together

OPS = (
    "gemm",
    "attention_prefill",
    "attention_decode",
    "moe",
    "all_reduce",
    "normalization",
    "softmax",
    "never heard of",
)
REGIMES = ("calibrated", "inherited", "datasheet")


@pytest.fixture
def table(monkeypatch):
    """Puts rows in place of the table that ships, and nothing in place of the components."""

    def put(*rows):
        known = {key: uncertainty.Residual(100, 3, *numbers) for key, numbers in rows}
        monkeypatch.setattr(uncertainty, "_table", lambda: known)
        monkeypatch.setattr(distance, "components", dict)
        forget()

    yield put
    monkeypatch.undo()
    forget()


def forget():
    """What was looked up in another table."""
    residual.cache_clear()
    uncertainty._measured.cache_clear()


@given(op=st.sampled_from(OPS), regime=st.sampled_from(REGIMES), seconds=st.floats(1e-7, 10.0))
def test_an_interval_holds_the_prediction_and_is_of_use(op, regime, seconds):
    low, high = interval(op, seconds, architecture="hopper", regime=regime)
    assert 0.02 < low <= 1 <= high < 50
    assert high / low > 1.01


def test_intervals_come_as_arrays_of_the_shape_asked_for():
    seconds = np.array([[1e-6, 1e-4], [1e-2, 1.0]])
    found = spread("gemm", seconds, architecture="hopper", regime="calibrated")
    assert found.low.shape == found.high.shape == found.correlated.shape == (2, 2)
    assert np.all((found.correlated >= 0) & (found.correlated <= 1))
    one = [float(interval("gemm", s, architecture="hopper", regime="calibrated")[0]) for s in seconds.flat]
    assert found.low.ravel().tolist() == one


def test_the_table_that_ships_is_sane_and_covers_every_class():
    with uncertainty.TABLE.open() as stream:
        rows = uncertainty.read(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert {class_of(key[0]) for key in rows if key[0] in uncertainty.CLASSES} == {
        "gemm",
        "attention",
        "moe",
        "collective",
        "run",
    }
    assert {key[3] for key in rows} <= set(REGIMES) and {key[4] for key in rows} <= {*STRATA, "any"}
    for key, row in rows.items():
        assert 0 < row.p10 <= row.p50 <= row.p90, key
        fewest = residuals.FEWEST_RUNS if key[0] in OF else residuals.FEWEST
        assert row.rows >= fewest and row.groups >= 1 and row.widening >= 1, key
    for name in ("gemm", "attention", "moe", "collective", "vector"):
        assert (name, "any", "any", "datasheet", "any") in rows
    for name in OF:
        assert (name, "any", "any", "calibrated", "any") in rows


@pytest.mark.parametrize("op", ["tpot", "ttft", "e2e"])
def test_served_runs_of_a_stranger_are_less_sure_than_those_of_a_gpu_that_was_measured(op):
    known, stranger = (run_spread(op, 0.1, WholeRun(architecture=name, library="vllm")) for name in ("hopper", "volta"))
    assert 0.2 < stranger.low < known.low < 1 < known.high < stranger.high < 6
    assert stranger.layers == {distance.ARCHITECTURE} and not known.layers


def test_what_the_table_lacks_is_taken_from_the_next_wider_row(table):
    numbers = {name: (0.9, 1.0, 1.0 + i / 10, 0.1, 0.1) for i, name in enumerate("abcdefg", 1)}
    gemm = ("gemm", "lib", "hopper", "calibrated")
    table(
        ((*gemm, "long"), numbers["a"]),
        ((*gemm, "any"), numbers["b"]),
        (("gemm", "lib", "any", "calibrated", "any"), numbers["c"]),
        (("gemm", "any", "any", "calibrated", "any"), numbers["d"]),
        (("gemm", "any", "any", "datasheet", "any"), numbers["e"]),
        (("vector", "any", "any", "inherited", "short"), numbers["f"]),
    )
    short, long = BOUNDS[0] / 4, BOUNDS[1] * 5

    def high(op, seconds, **asked):
        return round(float(interval(op, seconds, **asked)[1]), 6)

    mine = {"architecture": "hopper", "regime": "calibrated", "library": "lib"}
    assert high("gemm", long, **mine) == 1.1
    assert high("gemm", short, **mine) == 1.2
    assert high("gemm", long, **mine | {"architecture": "volta"}) == 1.3
    assert high("gemm", long, **mine | {"library": "other", "architecture": "volta"}) == 1.4
    assert high("gemm", long, **mine | {"regime": "inherited"}) == 1.3  # of no GPU with inherited ones: as all measured
    assert high("softmax", short, regime="calibrated") == 1.6  # its class, in the next wider regime
    assert high("softmax", short, regime="datasheet") == 1.6  # better a narrower regime than none
    assert high("softmax", long, regime="calibrated") == UNKNOWN.high


@pytest.mark.parametrize(("architecture", "high"), [("hopper", 1.2), ("volta", 1.3)])
def test_a_gather_between_nodes_is_as_sure_as_other_collectives_there(table, architecture, high):
    far, asked = "nccl between nodes", {"architecture": architecture, "regime": "calibrated"}
    table(
        (("all_gather", "any", architecture, "calibrated", "any"), (0.9, 1.0, 1.1, 0.1, 0.1)),  # in a node
        (("collective", far, "hopper", "calibrated", "any"), (0.9, 1.0, 1.2, 0.1, 0.1)),
        (("collective", far, "any", "calibrated", "any"), (0.9, 1.0, 1.3, 0.1, 0.1)),
    )
    assert float(interval("all_gather", 1e-3, library=far, **asked)[1]) == pytest.approx(high)
    assert float(interval("all_gather", 1e-3, **asked)[1]) == pytest.approx(1.1)
    assert not any(of == "vector" for of, _ in uncertainty._measured()[0])  # rows of collectives say nothing of kernels


def test_an_interval_is_never_on_one_side_of_the_prediction(table):
    table((("gemm", "default", "any", "datasheet", "any"), (1.2, 1.3, 1.5, 0.1, 0.1)))
    low, high = interval("gemm", 1e-3)
    assert (float(low), float(high)) == (1.0, 1.5)


def test_widening_stretches_both_ends(table):
    table((("gemm", "default", "any", "datasheet", "any"), (0.5, 1.0, 2.0, 0.1, 0.1, 2.0)))
    low, high = interval("gemm", 1e-3)
    assert (float(low), float(high)) == (0.25, 4.0)


def combine(classes, seconds, low, high, correlated):
    """P10 and P90 of a sum of parts."""
    columns = zip(classes, seconds, low, high, correlated, strict=True)
    found = range_of([(time, Uncertainty(name, down, up, share)) for name, time, down, up, share in columns])
    return found.p10, found.p90


def test_one_part_alone_keeps_its_interval():
    for correlated in (0.0, 0.3, 1.0):
        assert combine(["gemm"], [2.0], [0.8], [1.5], [correlated]) == pytest.approx((1.6, 3.0))


def test_common_parts_add_up_and_independent_ones_in_quadrature():
    together = combine(["gemm"] * 4, [1.0] * 4, [0.8] * 4, [1.2] * 4, [1.0] * 4)
    apart = combine(["gemm"] * 4, [1.0] * 4, [0.8] * 4, [1.2] * 4, [0.0] * 4)
    classes = combine(["gemm", "moe", "vector", "attention"], [1.0] * 4, [0.8] * 4, [1.2] * 4, [1.0] * 4)
    assert together == pytest.approx((3.2, 4.8))
    assert apart == pytest.approx((3.6, 4.4))
    assert classes == pytest.approx(apart)


@given(st.lists(st.tuples(st.sampled_from(["gemm", "moe"]), st.floats(1e-6, 1), st.floats(0.2, 1), st.floats(1, 4),
                          st.floats(0, 1)), min_size=1, max_size=8))  # fmt: skip
def test_a_step_lies_between_its_ends_and_no_further_than_all_at_their_worst(parts):
    names, seconds, low, high, correlated = zip(*parts, strict=True)
    p10, p90 = combine(names, seconds, low, high, correlated)
    total = sum(seconds)
    assert 0 < p10 <= total * (1 + 1e-9) and p90 >= total * (1 - 1e-9)
    assert p10 >= np.dot(seconds, low) * (1 - 1e-9) and p90 <= np.dot(seconds, high) * (1 + 1e-9)


def test_the_rule_agrees_with_monte_carlo():
    random = np.random.default_rng(7)
    seconds = np.array([3.0, 2.0, 1.0, 1.0, 0.5])
    names = ["gemm", "gemm", "attention", "vector", "vector"]
    common, own = 0.10, 0.12
    shared = {name: random.normal(0, common, 200_000) for name in sorted(set(names))}
    drawn = sum(
        time * np.exp(shared[name] + random.normal(0, own, 200_000)) for name, time in zip(names, seconds, strict=True)
    )
    z = 1.2816 * np.hypot(common, own)
    n = len(names)
    share = common**2 / (common**2 + own**2)
    p10, p90 = combine(names, seconds, [np.exp(-z)] * n, [np.exp(z)] * n, [share] * n)
    assert (p10, p90) == pytest.approx(tuple(np.quantile(drawn, [0.1, 0.9])), rel=0.03)


# ---- the table, made from measurements ---------------------------------------------------------------


@pytest.fixture(scope="module")
def gathered():
    with pytest.MonkeyPatch.context() as patch:
        for module in (residuals, running):
            patch.setattr(module, "validate", shared)
        return [one for kind in ("kernels", "collectives") for one in residuals.gather(kind, FOLDER, Catalogue())]


def shared(target, folder, catalogue, regime="full", without=None, parent=""):
    """`validate`, from what other tests predicted already. Validations are read, not changed, by those who ask."""
    assert without is None and not parent
    done = predicted(target, regime, folder)
    lists = ("scored", "not_predicted", "left_out", "misfits", "not_read")
    return replace(done, **{name: list(getattr(done, name)) for name in lists})


def covered(part, known=None, **asked):
    asked |= {"regime": part.regime, "seen": part.seen}
    low, high = interval(part.batch.op, part.predicted, library=library_of(part.batch), **asked)
    return (part.predicted * low <= part.measured) & (part.measured <= part.predicted * high)


@measured
@pytest.mark.slow
def test_intervals_hold_80_percent_of_the_rows_that_did_not_make_the_table(gathered):
    """By class and regime, on the other half of the rows: between 70 and 90 percent."""
    inside = {}
    for part, how in gathered:
        if how == residuals.USUAL and part.seen:
            held = covered(part, architecture=part.architecture)[part.reserved]
            inside.setdefault((class_of(part.batch.op), part.regime), []).append(held)
    joined = {key: np.concatenate(found) for key, found in inside.items()}
    assert len(joined) >= 6
    for key, held in joined.items():
        if len(held) >= 200:
            assert 0.70 <= held.mean() <= 0.90, (key, held.mean())


@measured
@pytest.mark.slow
def test_intervals_hold_for_architectures_that_are_not_in_the_table(gathered, monkeypatch):
    """Rows of each architecture against a table made without it, as a GPU of an architecture nobody measured.

    Constants of any GPU were chosen on some of these rows, so that they lie nearer than those of a new one would.
    """
    inside = {}
    for architecture in sorted({part.architecture for part, _ in gathered}):
        rows = uncertainty.read(residuals.residual_rows(gathered, held=architecture))
        monkeypatch.setattr(uncertainty, "_table", lambda rows=rows: rows)
        forget()
        for part, _ in gathered:
            if part.architecture == architecture and part.regime == "datasheet":
                inside.setdefault(class_of(part.batch.op), []).append(covered(part))
    monkeypatch.undo()
    forget()
    for name, found in inside.items():
        assert 0.65 <= np.concatenate(found).mean() <= 0.97, name


@measured
@pytest.mark.slow
def test_intervals_hold_with_the_constants_of_another_family(gathered, monkeypatch):
    """Neither the table nor a constant saw the architecture: what a user of a new one meets."""
    adopted, inside = residuals.adopt("kernels", FOLDER, Catalogue()), {}
    for architecture in sorted({part.architecture for _, part in adopted}):
        rows = uncertainty.read(residuals.residual_rows(gathered, held=architecture))
        monkeypatch.setattr(uncertainty, "_table", lambda rows=rows: rows)
        forget()
        for parent, part in adopted:
            if part.architecture == architecture != parent:
                low, high = interval(part.batch.op, part.predicted, library=library_of(part.batch), seen=part.seen)
                held = (part.predicted * low <= part.measured) & (part.measured <= part.predicted * high)
                inside.setdefault(class_of(part.batch.op), []).append(held)
    monkeypatch.undo()
    forget()
    for name, found in inside.items():
        assert 0.70 <= np.concatenate(found).mean() <= 0.95, name


@measured
@pytest.mark.slow
def test_the_table_that_ships_is_the_one_the_measurements_make(gathered):
    """After a change of a model or a constant: simgpu validate all --data DIR --write-residuals FILE."""
    made = uncertainty.read(residuals.residual_rows(gathered))
    with uncertainty.TABLE.open() as stream:
        ships = uncertainty.read(csv.DictReader(line for line in stream if not line.startswith("#")))
    off = [key for key in made if key not in ships or abs(np.log(made[key].high / ships[key].high)) > 0.05]
    assert len(off) <= 0.1 * len(made), off[:5]


@measured
@pytest.mark.slow
def test_the_written_table_can_be_read(gathered):
    text = io.StringIO()
    writer = csv.DictWriter(text, residuals.COLUMNS)
    writer.writeheader()
    writer.writerows(residuals.residual_rows(gathered[:3]))
    text.seek(0)
    assert uncertainty.read(csv.DictReader(text))
