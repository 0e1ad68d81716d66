"""Sequences longer than a model was published for: rotary positions go on, a learned table ends."""

import pytest
from click.testing import CliRunner

import simgpu
from simgpu import Inference, InputError, MixedStep, Plan, Prefill, Serving, Training
from simgpu.cli import main

ROTARY, LEARNED = simgpu.load_model("llama-3-8b"), simgpu.load_model("gpt2")
BOX = simgpu.load_cluster("dgx-h100")


def jobs(longest: int) -> list:
    """A job of each kind whose longest sequence has so many tokens."""
    return [
        Training(batch=1, tokens=longest), Prefill(tokens=longest), Inference(prompt=longest - 8, output=8),
        MixedStep(decodes=1, context=longest), Serving(concurrency=1, prompt=longest - 8, output=8),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", range(5))
def test_rotary_positions_go_on_and_learned_ones_end(kind: int) -> None:
    within, beyond = (jobs(tokens)[kind] for tokens in (ROTARY.max_tokens, 2 * ROTARY.max_tokens))
    steps = [simgpu.simulate(BOX, job, ROTARY, Plan()).step_s for job in (within, beyond)]
    assert steps[0] < steps[1]
    simgpu.simulate(BOX, jobs(LEARNED.max_tokens)[kind], LEARNED, Plan())
    with pytest.raises(InputError, match=r"1,025 tokens .* more than the 1,024 learned positions of 'gpt2'"):
        simgpu.simulate(BOX, jobs(LEARNED.max_tokens + 1)[kind], LEARNED, Plan())


def test_biases_by_distance_go_on() -> None:
    """ALiBi has no table."""
    model = simgpu.load_model("mpt-7b")
    assert model.takes(10 * model.max_tokens) is (model.position_rows == 0)


def test_a_note_says_how_far_a_model_is_stretched(tmp_path) -> None:
    text = """
    scenario: {{cluster: dgx-h100, model: {model}, workload: {{kind: training, batch: 1, tokens: {tokens}}}}}
    """
    for tokens, told in ((8192, False), (16384, True)):
        (tmp_path / "e.yaml").write_text(text.format(model="llama-3-8b", tokens=tokens))
        done = CliRunner().invoke(main, ["run", str(tmp_path / "e.yaml"), "--no-plots", "--out", str(tmp_path / "out")])
        assert done.exit_code == 0
        words = " ".join(done.output.split())
        assert ("llama-3-8b: 16,384 tokens are more than the 8,192 of its configuration." in words) is told
    (tmp_path / "e.yaml").write_text(text.format(model="gpt2", tokens=2048))
    done = CliRunner().invoke(main, ["run", str(tmp_path / "e.yaml")])
    assert done.exit_code == 2 and len(done.output.strip().splitlines()) == 1
    assert "e.yaml:2: workload.tokens: 2,048 tokens are more than the 1,024 learned positions of 'gpt2'" in done.output


def test_fit_says_it_too() -> None:
    asked = ["fit", "llama-3-8b", "--gpu", "h100-sxm", "--precision", "bf16", "--format", "json", "--context"]
    for tokens, told in (("8192", False), ("16384", True)):
        done = CliRunner().invoke(main, [*asked, tokens])
        assert ("more than the 8,192 of its configuration" in done.output) is told
