from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from litejit.errors import ModelError
from litejit.model import BUILTIN_NAMES, constant_array, read_model, write_model
from litejit.model.builder import ModelBuilder, per_channel, per_tensor
from litejit.model.model import Buffer, ExternalBuffer, Model, QuantizationExtra, VariantSubType
from litejit.model.options import AddOptions, Conv2DOptions, Padding, ReshapeOptions
from litejit.record import replace
from litejit.types import F32, I8, VARIANT, Quantization

sys.path.insert(0, str(Path(__file__).parent))
from model_samples import convolution, everything


def test_what_is_written_reads_back_equal() -> None:
    for builder in (convolution(), everything()):
        model = builder.build()
        assert read_model(write_model(model)) == model


def test_a_change_of_any_part_makes_models_unequal() -> None:
    model = everything().build()
    graph = model.subgraphs[0]
    other = replace(
        graph.operators[0], options=convolution().build().subgraphs[0].operators[1].options
    )
    changed = [
        replace(model, description="another"),
        replace(model, buffers=(*model.buffers[:-1], Buffer(b"8 bytes!"))),
        replace(model, subgraphs=(replace(graph, operators=(other, *graph.operators[1:])),)),
    ]
    assert all(read_model(write_model(one)) != model for one in changed)


def test_every_model_at_hand_makes_a_round_trip(shared: Path, all_cases: bool) -> None:
    paths = sorted((shared / "models").glob("*.tflite"), key=lambda path: path.stat().st_size)
    for path in paths if all_cases else paths[:30]:
        model = read_model(path, verify=False)
        assert read_model(write_model(model), verify=False) == model, path.name


def test_the_peer_sees_the_same_tensors_and_operators() -> None:
    peer = pytest.importorskip("ai_edge_litert.interpreter")
    model = convolution().build()
    found = peer.Interpreter(
        model_content=write_model(model),
        experimental_op_resolver_type=peer.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    for detail, tensor in zip(found.get_tensor_details(), model.subgraphs[0].tensors, strict=True):
        assert detail["name"] == tensor.name
        assert tuple(detail["shape"]) == tensor.shape
        assert detail["dtype"] is tensor.dtype.numpy.type
        scales = [] if tensor.quantization is None else tensor.quantization.scales.tolist()
        assert detail["quantization_parameters"]["scales"].tolist() == scales
    assert [op["op_name"] for op in found._get_ops_details()] == ["CONV_2D", "RESHAPE"]
    assert found.get_signature_list() == {"serving_default": {"inputs": ["x"], "outputs": ["y"]}}


def test_constants_are_views_of_the_file() -> None:
    data = convolution().to_bytes()
    value = constant_array(read_model(data), 0, 1)
    assert value is not None
    assert np.shares_memory(value, np.frombuffer(data, np.uint8))
    assert not value.flags.writeable
    assert value.tolist() == np.arange(24, dtype=np.int8).reshape(3, 2, 2, 2).tolist()


def test_tensors_without_data_have_no_constant() -> None:
    model = convolution().build()
    assert constant_array(model, 0, 0) is None


def test_metadata_and_buffers_are_found_by_name_and_number() -> None:
    model = read_model(convolution().to_bytes())
    assert model.metadata_bytes("note") == b"made by a test"
    assert model.metadata_bytes("none") is None
    assert model.buffer_bytes(0) == b""
    with pytest.raises(ModelError, match="buffer 99 does not exist"):
        model.buffer_bytes(99)


def test_buffers_behind_the_tables_are_read_and_written() -> None:
    builder = ModelBuilder()
    buffer = builder.add_buffer(np.arange(4, dtype=np.float32).tobytes(), behind=True)
    builder.main.outputs = [builder.main.add_tensor("w", (4,), F32, buffer=buffer)]
    data = builder.to_bytes()
    assert data.endswith(np.arange(4, dtype=np.float32).tobytes())
    value = constant_array(read_model(data), 0, 0)
    assert value is not None
    assert value.tolist() == [0, 1, 2, 3]
    with pytest.raises(ModelError, match="specified an out of range offset"):
        read_model(data[:-1])


def test_custom_options_behind_the_tables_are_read_and_written() -> None:
    model = everything().build()
    graph = model.subgraphs[1]
    custom = replace(graph.operators[-1], custom_options_behind=True)
    graph = replace(graph, operators=(*graph.operators[:-1], custom))
    model = replace(model, subgraphs=(model.subgraphs[0], graph))
    data = write_model(model)
    assert data[data.rindex(b"\1\2\3") :].endswith(b"behind the tables")
    assert read_model(data) == model


def test_rare_parts_of_the_format_make_a_round_trip() -> None:
    model = convolution().build()
    graph = model.subgraphs[0]
    low, high = np.array([-1, -2], "<f4"), np.array([1, 2], "<f4")
    empty = np.empty(0, "<f4")
    blockwise = Quantization(empty, np.empty(0, "<i8"), 1, 32, 2, -1)
    tensors = list(graph.tensors)
    tensors[0] = replace(tensors[0], quantization_extra=QuantizationExtra(low, high))
    tensors[3] = replace(
        tensors[3],
        quantization=blockwise,
        quantization_extra=QuantizationExtra(empty, empty, 2),
    )
    tensors[4] = replace(
        tensors[4],
        quantization=replace(blockwise, axis=0),
        quantization_extra=QuantizationExtra(empty, empty, 3, b"", (0, 1)),
    )
    tensors[2] = replace(
        tensors[2], quantization_extra=QuantizationExtra(empty, empty, 1, b"opaque")
    )
    variant = replace(
        tensors[0],
        dtype=VARIANT,
        quantization=None,
        quantization_extra=None,
        variant_tensors=(VariantSubType((1, -1), F32, True),),
    )
    model = replace(
        model,
        subgraphs=(replace(graph, tensors=(*tensors, variant), debug_metadata_index=4),),
        external_buffer_groups=("weights.bin",),
        external_buffers=(ExternalBuffer(1, 0, 1 << 40, 16, "raw"),),
        metadata_buffer=(1, 2),
    )
    assert read_model(write_model(model)) == model


def test_a_path_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    data = convolution().to_bytes()
    path.write_bytes(data)
    model = read_model(path)
    path.write_bytes(data[:100])
    assert model == read_model(data) == read_model(bytearray(data))
    assert constant_array(model, 0, 2).tolist() == [1, 2, 3]


def test_paths_that_hold_no_model_are_refused_in_the_peers_words(tmp_path: Path) -> None:
    missing = tmp_path / "none.tflite"
    with pytest.raises(ModelError) as caught:
        read_model(str(missing))
    assert str(caught.value).startswith(
        f"Could not open '{missing}'.The model allocation is null/empty"
    )
    with pytest.raises(ModelError, match="The model allocation is null/empty"):
        read_model(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(ModelError, match=r"mmap of size 0 requested\.The model allocation"):
        read_model(tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="not a regular file"):
        read_model(tmp_path / "pipe")


def test_absent_and_mismatched_options_read_as_defaults() -> None:
    model = read_model(convolution().to_bytes())
    convolve, reshape = model.subgraphs[0].operators
    assert convolve.options_type == 1
    assert convolve.read_options(Conv2DOptions).padding is Padding.SAME
    assert convolve.read_options(AddOptions) == AddOptions()
    assert reshape.read_options(ReshapeOptions).new_shape == (1, 12)
    bare = replace(convolve, options=type(convolve.options)())
    assert bare.read_options(Conv2DOptions) == Conv2DOptions(dilation_w_factor=1)


def test_codes_beyond_127_are_written_in_the_wide_field() -> None:
    builder = ModelBuilder()
    x = builder.main.add_input("x", (1,), F32)
    builder.main.add_operator("GELU", [x], [builder.main.add_output("y", (1,), F32)])
    model = read_model(builder.to_bytes())
    assert model.operator_codes[0].name == "GELU"
    assert model.operator_codes[0].code == BUILTIN_NAMES.index("GELU") > 127


def test_names_end_at_a_nul_and_wrong_utf8_is_replaced() -> None:
    builder = ModelBuilder()
    builder.main.outputs = [builder.main.add_tensor("abcdef", (1,), F32)]
    data = builder.to_bytes()
    assert data.count(b"abcdef") == 1
    model = read_model(data.replace(b"abcdef", b"ab\0def"))
    assert model.subgraphs[0].tensors[0].name == "ab"
    model = read_model(data.replace(b"abcdef", b"ab\xffdef"))
    assert model.subgraphs[0].tensors[0].name == "ab�def"


def test_builders_refuse_what_the_schema_does_not_know() -> None:
    graph = ModelBuilder().main
    with pytest.raises(ValueError, match="no builtin operator is called 'NOPE'"):
        graph.add_operator("NOPE", [], [])
    with pytest.raises(ValueError, match="pass dtype="):
        graph.add_constant("x", np.zeros(1, "datetime64[s]"))


def test_equal_constants_of_numpy_types_get_the_tensor_type_of_the_same_name() -> None:
    builder = ModelBuilder()
    for value, name in (
        (np.int8(1), "INT8"),
        (np.uint8(1), "UINT8"),
        (True, "BOOL"),
        ("a", "STRING"),
    ):
        index = builder.main.add_constant("c", value)
        assert builder.main.build().tensors[index].dtype.name == name


def test_quantization_helpers_give_float32_scales() -> None:
    assert per_tensor(0.1, 3).scales.dtype == np.float32
    assert per_channel([1, 2], axis=3).axis == 3
    assert per_channel([1, 2]).zero_points.tolist() == [0, 0]


def test_reading_leaves_the_collector_as_it_was() -> None:
    data = convolution().to_bytes()
    assert gc.isenabled()
    read_model(data)
    assert gc.isenabled()
    gc.disable()
    try:
        read_model(data)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_no_family_of_options_is_imported_that_a_model_does_not_name() -> None:
    import subprocess

    builder = ModelBuilder()
    x = builder.main.add_input("x", (1,), I8)
    builder.main.add_operator("ADD", [x, x], [builder.main.add_output("y", (1,), I8)], AddOptions())
    code = (
        "import sys, types\n"
        "package = types.ModuleType('litejit')\n"
        f"package.__path__ = [{str(Path(_package_file()).parent.parent)!r}]\n"
        "sys.modules['litejit'] = package\n"
        "from litejit.model import read_model\n"
        f"read_model({builder.to_bytes()!r})\n"
        "print(*sorted(m for m in sys.modules if m.startswith('litejit.model')))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    families = {name.rpartition(".")[2] for name in result.stdout.split() if ".options." in name}
    assert families == {"elementwise", "enums"}
    assert "litejit.model.writer" not in result.stdout


def _package_file() -> str:
    import litejit.model

    return str(litejit.model.__file__)


def test_an_empty_model_is_refused_only_when_it_is_checked() -> None:
    data = write_model(Model())
    assert read_model(data, verify=False).subgraphs == ()
    with pytest.raises(ModelError, match=r"^No subgraph in the model\.\n"):
        read_model(data)
