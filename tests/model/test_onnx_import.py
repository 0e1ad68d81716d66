"""Reading ONNX files: published counts, shapes that a graph computes, fusion, and files that are no good."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.model.imported.pieces import Imported

onnx = pytest.importorskip("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def read(file: Path, dims: dict[str, int] | None = None, **how: bool) -> Imported:
    from simgpu.model.imported.onnx_operators import read_onnx

    return read_onnx(file, dims, **how)


def weights(name: str, *shape: int) -> Any:
    import numpy as np

    return onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)


def ints(name: str, *values: int) -> Any:
    return helper.make_tensor(name, INT64, [len(values)], values)


def save(
    folder: Path, nodes: list[Any], inputs: dict[str, list[Any]], held: list[Any], output: str, **more: Any
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        held,
        value_info=more.pop("value_info", []),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    file = folder / "model.onnx"
    file.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8, **more).SerializeToString())
    return file


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), output.split(), name=output, **attributes)


def flops(found: Imported) -> float:
    from simgpu.study.report.imported import summary

    return float(summary(found)["flop"])


def attention(folder: Path) -> Path:
    """Attention of 12 heads of 64 over 128 tokens, as exporters write it: products, scaling, mask, softmax."""
    nodes = [
        node("MatMul", "x wq", "q0"),
        node("MatMul", "x wk", "k0"),
        node("MatMul", "x wv", "v0"),
        *(node("Reshape", f"{one}0 heads", f"{one}1") for one in "qkv"),
        node("Transpose", "q1", "q", perm=[0, 2, 1, 3]),
        node("Transpose", "k1", "k", perm=[0, 2, 3, 1]),
        node("Transpose", "v1", "v", perm=[0, 2, 1, 3]),
        node("MatMul", "q k", "scores"),
        node("Div", "scores root", "scaled"),
        node("Add", "scaled mask", "masked"),
        node("Softmax", "masked", "shares", axis=-1),
        node("MatMul", "shares v", "mixed"),
        node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
        node("Reshape", "back whole", "joined"),
        node("MatMul", "joined wo", "out"),
    ]
    held = [*(weights(f"w{one}", 768, 768) for one in "qkvo"), weights("root", 1), weights("mask", 1, 1, 128, 128)]
    held += [ints("heads", 0, 0, 12, 64), ints("whole", 0, 0, 768)]
    return save(folder, nodes, {"x": ["batch", 128, 768]}, held, "out")


# ---- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "gflop"),
    [("resnet50", 25_557_032, 2 * 4.09), ("vgg19", 143_667_240, 2 * 19.63), ("squeezenet", 1_235_496, 2 * 0.349)],
)
def test_published_networks_have_their_published_sizes(name: str, parameters: int, gflop: float) -> None:
    """torchvision's tables of weights; FLOPs are two for each multiply-add."""
    file = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    if not file.exists():
        pytest.skip("this onnx comes without its test data")
    found = read(file)
    assert found.parameters == parameters
    assert flops(found) / 1e9 == pytest.approx(gflop, rel=0.01)


def test_an_imported_resnet_is_the_projects_own() -> None:
    file = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    if not file.exists():
        pytest.skip("this onnx comes without its test data")
    own = {"kind": "network", "batch": 1, "stack": "compiled"}
    there = simgpu.simulate("a100-sxm-80gb", own, "resnet50", dtype="fp16")
    here = simgpu.simulate("a100-sxm-80gb", simgpu.import_onnx(file, fused=True), dtype="fp16")
    assert here.flop == there.row["flop"]
    assert here.row["weights_bytes_per_gpu"] == there.row["weights_bytes_per_gpu"]
    assert here.step_s == pytest.approx(there.step_s, rel=0.1)  # what is joined differs a little
    with pytest.raises(InputError, match=r"makes 2,048 elements of 16,384: the file fixes this shape"):
        simgpu.import_onnx(file, {"gpu_0/data_0.0": 8})


def test_a_graph_runs_as_a_workload_of_operators(tmp_path: Path) -> None:
    run = CliRunner().invoke(
        main, ["import", str(attention(tmp_path)), "--dim", "batch=2", "-o", str(tmp_path / "a.yaml")]
    )
    assert run.exit_code == 0, run.output
    graph = json.loads((tmp_path / "a.json").read_text())
    assert graph["inputs"] == {"x": [2, 128, 768]}
    assert graph["parameters"] == 4 * 768 * 768 + 1 + 128 * 128
    result = simgpu.simulate("h100-sxm", {"kind": "operators", "file": str(tmp_path / "a.json")}, dtype="fp16")
    assert result.flop == 2 * 2 * 128 * 768 * 768 * 4 + 2 * 2 * 2 * 128 * 128 * 768
    assert result.row["weights_bytes_per_gpu"] == 2 * graph["parameters"]
    run = CliRunner().invoke(main, ["explain", str(tmp_path / "a.yaml"), "--format", "csv"])
    assert run.exit_code == 0 and "scores" in run.output


def test_fused_attention_does_the_same_work_in_fewer_kernels(tmp_path: Path) -> None:
    eager, fused = (read(attention(tmp_path), {"batch": 2}, fuse=how) for how in (False, True))
    assert flops(eager) == flops(fused)
    assert eager.parameters == fused.parameters
    kinds = Counter(entry["op"] for entry in fused.entries)
    assert kinds["attention"] == 1 and kinds["matmul"] == 4
    assert len(fused.entries) < len(eager.entries)


def test_pointwise_runs_are_one_kernel_where_they_are_compiled(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "a b", "c"),
        node("Relu", "c", "d"),
        node("Mul", "d a", "e"),  # reads the product twice: once, where it is one kernel
        node("MatMul", "e w", "out"),
    ]
    file = save(tmp_path, nodes, {"x": [64, 32]}, [weights("w", 32, 32), weights("b", 32)], "out")
    eager, fused = (read(file, fuse=how).entries for how in (False, True))
    assert [entry["op"] for entry in fused] == ["matmul", "pointwise", "matmul"]
    assert fused[1]["reads"] == pytest.approx(1 + 1 / 64) and fused[1]["writes"] == 1
    assert sum(entry.get("weights", 0) for entry in fused) == sum(entry.get("weights", 0) for entry in eager) == 32
    assert "weight" not in fused[0] and fused[2]["weight"] is False  # tied: counted once
    moved = [
        sum(entry["reads"] + entry["writes"] for entry in some if entry["op"] == "pointwise") for some in (eager, fused)
    ]
    assert moved[1] < moved[0]


def test_shapes_that_a_graph_computes_are_known(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "first", axis=0),
        node("Concat", "first rest", "target", axis=0),
        node("Reshape", "x target", "flat"),
        node("MatMul", "flat w", "out"),
    ]
    held = [ints("zero", 0), ints("rest", -1), weights("w", 12, 5)]
    found = read(save(tmp_path, nodes, {"x": ["n", 3, 4]}, held, "out"), {"n": 7})
    assert found.entries == ({"op": "matmul", "name": "out", "m": 7, "n": 5, "k": 12},)


@pytest.mark.parametrize("auto", ["NOTSET", "SAME_UPPER"])
@pytest.mark.parametrize(("kernel", "dilation", "stride"), [(3, 1, 2), (3, 2, 1), (2, 1, 2), (5, 1, 1)])
def test_convolutions_count_their_products(tmp_path: Path, auto: str, kernel: int, dilation: int, stride: int) -> None:
    nodes = [node("Conv", "x w", "out", auto_pad=auto, strides=[stride] * 2, dilations=[dilation] * 2)]
    file = save(tmp_path, nodes, {"x": [2, 8, 20, 17]}, [weights("w", 16, 4, kernel, kernel)], "out")
    model = onnx.load(file)
    model.graph.node[0].attribute.append(helper.make_attribute("group", 2))
    onnx.save(model, file)
    (shape,) = (
        [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in onnx.shape_inference.infer_shapes(model).graph.output
    )
    found = read(file)
    assert flops(found) == 2 * 2 * shape[2] * shape[3] * 16 * 4 * kernel * kernel
    assert found.parameters == 16 * 4 * kernel * kernel


def test_gather_of_a_table_is_a_lookup_and_normalisation_keeps_its_weights(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "x", "ids", to=INT64),
        node("Gather", "table ids", "rows"),
        node("LayerNormalization", "rows scale shift", "out"),
    ]
    held = [weights("table", 1000, 64), weights("scale", 64), weights("shift", 64)]
    found = read(save(tmp_path, nodes, {"x": [4, 16]}, held, "out"))
    assert [entry.get("kind", entry["op"]) for entry in found.entries] == ["pointwise", "embedding", "normalization"]
    assert found.parameters == 1000 * 64 + 128


def test_local_functions_are_put_in_place(tmp_path: Path) -> None:
    function = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [helper.make_node("Twice", ["x"], ["out"], domain="mine")]
    found = read(save(tmp_path, nodes, {"x": [8, 8]}, [], "out", functions=[function]))
    assert [entry["op"] for entry in found.entries] == ["pointwise"]


# ---- what is refused -------------------------------------------------------------------------------------


def refused(*arguments: object) -> str:
    """The one line that a command ends with."""
    run = CliRunner().invoke(main, list(map(str, arguments)))
    assert run.exit_code == 2, run.output
    lines = [line for line in run.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("simgpu: ") and "Traceback" not in run.output
    return lines[0]


def test_free_dimensions_are_asked_for_by_name(tmp_path: Path) -> None:
    file = save(tmp_path, [node("Relu", "x", "out")], {"x": ["batch", None, 8]}, [], "out")
    assert "batch, x.1 of input 'x' [batch x ? x 8] need a value, such as --dim batch=1 --dim x.1=1" in refused(
        "import", file
    )
    assert "'bacth' is no dimension of" in refused("import", file, "--dim", "bacth=2")
    assert "expected NAME=N" in refused("import", file, "--dim", "batch=0")
    assert read(file, {"batch": 2, "x.1": 3}).entries[0]["rows"] == 6


def custom(folder: Path, declared: bool) -> Path:
    nodes = [helper.make_node("Magic", [f"m{i - 1}" if i else "x"], [f"m{i}"], domain="mine") for i in range(3)] + [
        node("Relu", "m2", "out")
    ]
    known = [helper.make_tensor_value_info(f"m{i}", FLOAT, [8, 8]) for i in range(3)] if declared else []
    return save(folder, nodes, {"x": [8, 8]}, [], "out", value_info=known)


def test_unknown_operators_are_refused_with_counts_or_bound_by_memory(tmp_path: Path) -> None:
    file = custom(tmp_path, declared=True)
    assert "operators that are not known: mine.Magic (3); --unknown memory" in refused("import", file)
    run = CliRunner().invoke(main, ["import", str(file), "--unknown", "memory", "-o", str(tmp_path / "g.yaml")])
    assert run.exit_code == 0 and "not known, taken as bound by memory: mine.Magic (3)" in run.output
    run = CliRunner().invoke(main, ["run", str(tmp_path / "g.yaml"), "--no-plots", "-o", str(tmp_path / "out")])
    assert run.exit_code == 0 and "taken as bound by memory: mine.Magic (3)" in run.output
    assert "depends on values or is not declared" in refused("import", custom(tmp_path, False))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "is not an ONNX file"),
        (b'{"a": 1}', "is JSON"),
        (pickle.dumps([1, 2]), "is a pickle"),
        (b"PK\x03\x04" + bytes(40), "is an archive"),
        (b"GGUF" + bytes(40), "GGUF"),
        ((40).to_bytes(8, "little") + b'{"w": {}}' + bytes(40), "is a safetensors file"),
        (b"\xff" * 200, "is not an ONNX file"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert words in refused("import", file)


def test_a_file_cut_off_anywhere_is_one_line(tmp_path: Path) -> None:
    whole = attention(tmp_path).read_bytes()
    for part in range(1, 12):
        (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) * part // 12])
        refused("import", tmp_path / "cut.onnx", "--dim", "batch=1")


def test_weights_are_not_read(tmp_path: Path) -> None:
    from simgpu.model.imported.onnx_file import load

    file = attention(tmp_path)
    kept = load(file)
    assert kept.ByteSize() < 100_000 < file.stat().st_size
    assert [list(one.dims) for one in kept.graph.initializer][:2] == [[768, 768], [768, 768]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_file_of_3_gb_is_read_without_its_weights(tmp_path: Path) -> None:
    """More than a message of protocol buffers may have; the file is sparse, so that it costs no disk."""
    model = onnx.load(save(tmp_path, [node("MatMul", "x w", "out")], {"x": [8, 30_000]}, [weights("w", 1, 1)], "out"))
    del model.graph.initializer[0]
    graph = model.graph.SerializeToString()
    size = 30_000 * 25_000 * 4
    held = helper.make_tensor("w", FLOAT, [0], []).SerializeToString()
    tensor = onnx.TensorProto.FromString(held)
    del tensor.dims[:]
    tensor.dims.extend([30_000, 25_000])
    tensor.ClearField("raw_data")
    front = tensor.SerializeToString() + varint(9 << 3 | 2) + varint(size)
    whole = graph + varint(5 << 3 | 2) + varint(len(front) + size) + front
    model.ClearField("graph")
    file = tmp_path / "large.onnx"
    with file.open("wb") as stream:
        stream.write(model.SerializeToString() + varint(7 << 3 | 2) + varint(len(whole) + size) + whole)
        stream.truncate(stream.tell() + size)
    assert file.stat().st_size > 3e9 - 1e6
    assert read(file).parameters == 30_000 * 25_000
    with file.open("r+b") as stream:
        stream.truncate(size // 2)
    assert "is cut off" in refused("import", file)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    import random

    from simgpu.model.imported.wire import without_weights

    whole, draw = without_weights(attention(tmp_path).read_bytes()), random.Random(5)
    file = tmp_path / "damaged.onnx"
    for _ in range(40):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 3, 10])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(content)
        run = CliRunner().invoke(main, ["import", str(file), "--dim", "batch=2"])
        assert run.exit_code == 0 or len(run.stderr.splitlines()) == 1, run.stderr
        assert run.exception is None or isinstance(run.exception, SystemExit)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    assert "no such file" in refused("import", tmp_path / "none.onnx")
    assert "is a folder" in refused("import", tmp_path)
    assert "expected a file named .json" in refused("import", tmp_path / "a.onnx", "-o", tmp_path / "a.txt")
    graph = tmp_path / "g.json"
    for text, words in (
        ("[1", "not valid JSON"),
        ("{}", "is no graph"),
        ('{"simgpu_graph": 1, "name": "a"}', "operators"),
    ):
        graph.write_text(text)
        with pytest.raises(InputError, match=words):
            simgpu.simulate("h100-sxm", {"kind": "operators", "file": str(graph)})
