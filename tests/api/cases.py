"""Uses and misuses of an interpreter in LiteRT's shape, each a function of the module under test.

`outcome(case, module)` tells what a use gives, in JSON: a value, or an exception's class and
message. `recorded.json` holds what LiteRT 2.3.0 gives; `python -m tests.api.record` writes it.
"""

from __future__ import annotations

import copy
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.api.broken import BROKEN
from tests.api.models import PLAIN, custom_model, model

CASES: dict[str, Callable[[Any], Any]] = {}
Case = Callable[[Any], Any]


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def many(pattern: str, function: Callable[..., Any], rows: dict[str, tuple[Any, ...]]) -> None:
    """Register one use with several arguments, named by the pattern."""
    for name, arguments in rows.items():
        CASES[pattern.format(name)] = lambda m, a=arguments: function(m, *a)


def plain(value: Any) -> Any:
    """A value as JSON that keeps types, shapes and dtypes apart."""
    if isinstance(value, np.ndarray):
        items = plain(value.tolist())
        return {"array": str(value.dtype), "shape": list(value.shape), "items": items}
    if isinstance(value, np.generic):
        return {"scalar": str(value.dtype), "item": plain(value.item())}
    if isinstance(value, dict):
        return {"dict": [[plain(k), plain(v)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, type):
        return {"type": value.__name__}
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value) if isinstance(value, float) else value
    return repr(value)


def outcome(function: Case, module: Any) -> Any:
    """What a use gives: {"value": ...} or {"error": class, "message": text}."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result: dict[str, Any] = {"value": plain(function(module))}
        except Exception as error:
            kind = next(c for c in type(error).__mro__ if c.__module__ == "builtins")
            result = {"error": kind.__name__, "message": str(error)}
    told = [f"{w.category.__name__}: {str(w.message)[:60]}" for w in caught]
    return {**result, "warnings": told} if told else result


# -- helpers --


def made(m: Any, name: str, **arguments: Any) -> Any:
    return m.Interpreter(model_content=model(name), **arguments)


def ready(m: Any, name: str, **arguments: Any) -> Any:
    interpreter = made(m, name, **arguments)
    interpreter.allocate_tensors()
    return interpreter


def floats(*shape: int) -> Any:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def ran(m: Any, name: str, *values: Any, **arguments: Any) -> Any:
    interpreter = ready(m, name, **arguments)
    for detail, value in zip(interpreter.get_input_details(), values):  # noqa: B905
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return interpreter


def outputs(interpreter: Any) -> list[Any]:
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


# -- names and the constructor --


@case
def test_resolver_types_are_numbered_as_in_litert(m: Any) -> Any:
    return [(t.name, t.value) for t in m.OpResolverType]


@case
def test_resolver_ids_are_those_of_litert(m: Any) -> Any:
    return [m._get_op_resolver_id(t) for t in (*m.OpResolverType, None)]


@case
def test_there_is_no_execution_plan(m: Any) -> Any:
    return [hasattr(m.Interpreter, "_get_execution_plan"), hasattr(m, "metrics"),
            issubclass(m.InterpreterWithCustomOps, m.Interpreter)]  # fmt: skip


@case
def test_metrics_count_interpreters(m: Any) -> Any:
    made(m, "add")._metrics.increase_counter_interpreter_creation()
    return type(made(m, "add")._metrics).__name__


@case
def test_private_attributes_exist(m: Any) -> Any:
    i = made(m, "add")
    return [i._custom_op_registerers, i._experimental_compress_quantization_zero_points,
            i._model_content == model("add"), i._delegates, i._signature_defs,
            i.experimental_compress_quantization_zero_points]  # fmt: skip


def _construct(m: Any, *arguments: Any, **named: Any) -> Any:
    m.Interpreter(*arguments, **named)


def _construct_named(m: Any, named: dict[str, Any]) -> Any:
    m.Interpreter(**named)


many("test_constructor_with_{}", _construct_named, {
    "nothing": ({},),
    "an_empty_path": ({"model_path": ""},),
    "empty_content": ({"model_content": b""},),
    "none": ({"model_path": None, "model_content": None},),
    "both": ({"model_path": "x", "model_content": b"x"},),
    "a_missing_file": ({"model_path": "/nope/x.tflite"},),
    "a_missing_file_in_bytes": ({"model_path": b"/nope/x.tflite"},),
    "a_missing_file_as_path": ({"model_path": Path("/nope/x.tflite")},),
    "an_int_as_path": ({"model_path": 5},),
    "short_content": ({"model_content": b"abc"},),
    "garbage": ({"model_content": b"\xff" * 200},),
    "zeros": ({"model_content": bytes(200)},),
    "half_a_model": ({"model_content": model("add")[:200]},),
    "another_identifier": ({"model_content": model("add").replace(b"TFL3", b"abcd", 1)},),
    "a_bytearray": ({"model_content": bytearray(model("add"))},),
    "a_memoryview": ({"model_content": memoryview(model("add"))},),
    "a_str_as_content": ({"model_content": "abc"},),
    "an_array_as_content": ({"model_content": np.frombuffer(model("add"), np.uint8)},),
    "an_int_as_content": ({"model_content": 5},),
    "threads_0": ({"model_content": model("add"), "num_threads": 0},),
    "threads_minus_1": ({"model_content": model("add"), "num_threads": -1},),
    "threads_4_2": ({"model_content": model("add"), "num_threads": 4.2},),
    "threads_in_words": ({"model_content": model("add"), "num_threads": "2"},),
    "threads_of_numpy": ({"model_content": model("add"), "num_threads": np.int32(2)},),
    "threads_true": ({"model_content": model("add"), "num_threads": True},),
    "threads_2": ({"model_content": model("add"), "num_threads": 2},),
    "threads_none": ({"model_content": model("add"), "num_threads": None},),
    "resolver_test": ({"model_content": model("add"), "experimental_op_resolver_type": "test"},),
    "resolver_none": ({"model_content": model("add"), "experimental_op_resolver_type": None},),
    "resolver_1": ({"model_content": model("add"), "experimental_op_resolver_type": 1},),
    "resolver_list": ({"model_content": model("add"), "experimental_op_resolver_type": []},),
    "no_resolver_before_threads": ({"experimental_op_resolver_type": 7, "num_threads": 0},),
    "threads_before_the_model": ({"num_threads": 0},),
    "an_unknown_version": ({"model_content": model("bad_version")},),
    "an_unknown_argument": ({"model_content": model("add"), "foo": 1},),
    "no_delegates": ({"model_content": model("add"), "experimental_delegates": []},),
    "delegates_that_are_none": (
        {"model_content": model("add"), "experimental_delegates": [object()]},
    ),
    "a_custom_operator": ({"model_content": model("custom")},),
})  # fmt: skip


@case
def test_constructor_accepts_paths_of_all_kinds(m: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        path.write_bytes(model("add"))
        made = [m.Interpreter(str(path)), m.Interpreter(os.fsencode(path)), m.Interpreter(path)]
        return [hasattr(i, "_model_content") for i in made]


@case
def test_constructor_with_a_folder(m: Any) -> Any:
    m.Interpreter(model_path="/tmp")


@case
def test_constructor_with_an_empty_file(m: Any) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        m.Interpreter(model_path=file.name)


@case
def test_constructor_with_a_file_of_garbage(m: Any) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"garbage, and more of it")
        file.flush()
        m.Interpreter(model_path=file.name)


def _preserving(m: Any, resolver: str) -> Any:
    kind = getattr(m.OpResolverType, resolver)
    made(m, "fixed", experimental_preserve_all_tensors=True, experimental_op_resolver_type=kind)
    return None


many("test_preserving_tensors_with_{}", _preserving, {
    name: (name,)
    for name in ("AUTO", "BUILTIN", "BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
})  # fmt: skip


@case
def test_preserving_warns_before_the_resolver_is_checked(m: Any) -> Any:
    m.Interpreter(experimental_preserve_all_tensors=True, num_threads=0)


@case
def test_all_experimental_arguments_are_accepted(m: Any) -> Any:
    names = ("disable_delegate_clustering", "default_delegate_latest_features",
             "compress_quantization_zero_points", "disable_delegate_node_fusion",
             "force_delegate_node_profiling")  # fmt: skip
    i = made(m, "add", **{f"experimental_{name}": True for name in names})
    return i.experimental_compress_quantization_zero_points


# -- custom operators and delegates --


@case
def test_custom_operator_fails_when_tensors_are_allocated(m: Any) -> Any:
    ready(m, "custom")


@case
def test_flex_operator_names_the_delegate(m: Any) -> Any:
    ready(m, "flex")


@case
def test_other_custom_operator_is_named(m: Any) -> Any:
    m.Interpreter(model_content=custom_model("Foo.Bar", b"abc")).allocate_tensors()


@case
def test_registerer_symbol_is_looked_up(m: Any) -> Any:
    m.InterpreterWithCustomOps(["Bogus"], model_content=model("add"))


@case
def test_registerer_raises_through(m: Any) -> Any:
    def registerer(_: Any) -> None:
        raise KeyError("mine")

    m.InterpreterWithCustomOps([registerer], model_content=model("add"))


@case
def test_registerer_of_another_type(m: Any) -> Any:
    m.InterpreterWithCustomOps([5], model_content=model("add"))


@case
def test_registerers_are_called_once_each(m: Any) -> Any:
    seen: list[int] = []
    m.InterpreterWithCustomOps(
        custom_op_registerers=[lambda r: seen.append(1), lambda r: seen.append(2)],
        model_content=model("add"),
    )
    return seen


@case
def test_registerers_come_first_by_position(m: Any) -> Any:
    m.InterpreterWithCustomOps("/nope/x.tflite")


@case
def test_registerers_may_be_left_out(m: Any) -> Any:
    i = m.InterpreterWithCustomOps(model_content=model("add"))
    return i._custom_op_registerers


@case
def test_strings_are_registered_before_callables(m: Any) -> Any:
    seen: list[int] = []
    try:
        m.InterpreterWithCustomOps([lambda r: seen.append(1), "Bogus"], model_content=model("add"))
    except ValueError:
        return seen
    return None


@case
def test_missing_delegate_library(m: Any) -> Any:
    m.load_delegate("/nope/lib.so")


@case
def test_missing_delegate_library_of_the_class(m: Any) -> Any:
    m.Delegate("/nope/lib.so")


@case
def test_delegates_without_pointer(m: Any) -> Any:
    made(m, "add", experimental_delegates=[3])


@case
def test_delegates_that_are_no_list(m: Any) -> Any:
    made(m, "add", experimental_delegates=3)


# -- running --


@case
def test_allocate_and_invoke_return_none(m: Any) -> Any:
    i = made(m, "add")
    first = i.allocate_tensors()
    i.set_tensor(0, floats(1, 4))
    return [first, i.invoke(), i.get_tensor(2)]


@case
def test_invoke_before_allocate(m: Any) -> Any:
    made(m, "add").invoke()


@case
def test_invoke_before_allocate_without_operators(m: Any) -> Any:
    made(m, "types").invoke()


@case
def test_allocating_again_keeps_data(m: Any) -> Any:
    i = ready(m, "add")
    i.set_tensor(0, floats(1, 4))
    i.allocate_tensors()
    i.invoke()
    return i.get_tensor(2)


@case
def test_inputs_survive_a_run(m: Any) -> Any:
    return ran(m, "fixed", floats(2, 3)).get_tensor(0)


@case
def test_outputs_may_be_set(m: Any) -> Any:
    i = ready(m, "add")
    i.set_tensor(2, floats(1, 4))
    return i.get_tensor(2)


@case
def test_reference_resolver_gives_the_same(m: Any) -> Any:
    return outputs(
        ran(m, "fixed", floats(2, 3), experimental_op_resolver_type=m.OpResolverType.BUILTIN_REF)
    )


@case
def test_integer_layer(m: Any) -> Any:
    kind = m.OpResolverType.BUILTIN_REF
    x = np.array([[1, -2, 3, 4]], np.int8)
    return outputs(ran(m, "quantized", x, experimental_op_resolver_type=kind))


@case
def test_preserved_tensors_are_readable(m: Any) -> Any:
    kind = m.OpResolverType.BUILTIN_REF
    i = ran(m, "chain", floats(2, 2), experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=kind)  # fmt: skip
    return [i.get_tensor(k) for k in range(3)]


@case
def test_scalars_come_back_as_numpy_scalars(m: Any) -> Any:
    return outputs(ran(m, "scalar", np.array(3, np.float32)))


@case
def test_variables_begin_at_zero_and_bytes_at_their_zero_point(m: Any) -> Any:
    i = ran(m, "variable", floats(2))
    return [i.get_tensor(1), i.get_tensor(2), *outputs(i)]


@case
def test_variables_persist_until_they_are_reset(m: Any) -> Any:
    i = ran(m, "variable", floats(2))
    i.set_tensor(1, np.array([5, 6], np.float32))
    i.allocate_tensors()
    i.invoke()
    before = i.get_tensor(3)
    i.reset_all_variables()
    i.invoke()
    return [before, i.get_tensor(3)]


@case
def test_resizing_resets_variables(m: Any) -> Any:
    i = ready(m, "variable")
    i.set_tensor(1, np.array([5, 6], np.float32))
    i.resize_tensor_input(0, [1])
    i.allocate_tensors()
    return i.get_tensor(1)


@case
def test_variables_cannot_be_reset_before_allocation(m: Any) -> Any:
    made(m, "variable").reset_all_variables()


@case
def test_reset_without_variables(m: Any) -> Any:
    return made(m, "add").reset_all_variables()


@case
def test_failing_run_names_the_node(m: Any) -> Any:
    ran(m, "gather", floats(4, 3), np.array([9, 0], np.int32))


@case
def test_running_goes_on_after_a_failure(m: Any) -> Any:
    i = ready(m, "gather")
    i.set_tensor(0, floats(4, 3))
    i.set_tensor(1, np.array([9, 0], np.int32))
    try:
        i.invoke()
    except RuntimeError:
        i.set_tensor(1, np.array([3, 0], np.int32))
        i.invoke()
    return i.get_tensor(2)


@case
def test_native_handle_is_an_int(m: Any) -> Any:
    i = made(m, "add")
    return [isinstance(i._native_handle(), int), i._safe_to_run(), i._ensure_safe()]


@case
def test_interpreters_cannot_be_copied(m: Any) -> Any:
    copy.copy(made(m, "add"))


@case
def test_interpreters_cannot_be_pickled(m: Any) -> Any:
    pickle.dumps(made(m, "add"))


@case
def test_deleting_by_hand_ends_the_interpreter(m: Any) -> Any:
    i = ready(m, "add")
    i.__del__()
    i.get_tensor(0)


# -- details --


def _details(m: Any, name: str, method: str, *arguments: Any) -> Any:
    return getattr(made(m, name), method)(*arguments)


for _name in ("add", "fixed", "quantized", "types", "packed", "strings", "scalar", "sparse",
              "blockwise", "shared_zero", "no_outputs_name", "variable", "where"):  # fmt: skip
    many("test_details_of_{}", _details, {
        f"inputs_of_{_name}": (_name, "get_input_details"),
        f"outputs_of_{_name}": (_name, "get_output_details"),
        f"tensors_of_{_name}": (_name, "get_tensor_details"),
        f"operators_of_{_name}": (_name, "_get_ops_details"),
    })  # fmt: skip
many("test_details_of_{}", _details, {
    "signatures": ("signatures", "get_signature_list"),
    "all_signatures": ("signatures", "_get_full_signature_list"),
    "no_signature": ("fixed", "get_signature_list"),
    "one_signature": ("add", "get_signature_list"),
    "the_number_of_subgraphs": ("signatures", "num_subgraphs"),
    "tensors_of_subgraph_1": ("signatures", "get_tensor_details", 1),
    "tensors_of_subgraph_2": ("signatures", "get_tensor_details", 2),
    "tensors_of_subgraph_minus_1": ("signatures", "get_tensor_details", -1),
    "operator_7": ("add", "_get_op_details", 7),
    "operator_minus_1": ("add", "_get_op_details", -1),
    "operator_0": ("add", "_get_op_details", 0),
    "tensor_4": ("add", "_get_tensor_details", 4, 0),
    "tensor_0": ("add", "_get_tensor_details", 0, 0),
    "tensor_minus_1": ("add", "_get_tensor_details", -1, 0),
    "tensor_of_subgraph_7": ("add", "_get_tensor_details", 0, 7),
    "omitted_operands": ("dense", "_get_ops_details"),
    "custom_operators": ("custom", "_get_ops_details"),
})  # fmt: skip


@case
def test_details_are_fresh_each_time(m: Any) -> Any:
    i = made(m, "add")
    a, b = i.get_input_details(), i.get_input_details()
    a[0]["shape"][0] = 9
    return [a is b, a[0] is b[0], a[0]["shape"] is b[0]["shape"], i.get_input_details()[0]["shape"]]


@case
def test_compressed_zero_points_are_one_where_all_are_equal(m: Any) -> Any:
    i = made(m, "shared_zero", experimental_compress_quantization_zero_points=True)
    return i.get_tensor_details()


@case
def test_details_follow_a_resize(m: Any) -> Any:
    i = made(m, "fixed")
    i.resize_tensor_input(0, [5, 3])
    before = i.get_input_details() + i.get_output_details()
    i.allocate_tensors()
    return [before, i.get_input_details() + i.get_output_details()]


@case
def test_signature_of_shapes_stays_when_resized(m: Any) -> Any:
    i = made(m, "add")
    i.resize_tensor_input(0, [5, 4])
    i.allocate_tensors()
    return i.get_input_details() + i.get_output_details()


@case
def test_signature_lists_are_fresh_each_time(m: Any) -> Any:
    i = made(m, "signatures")
    i.get_signature_list()["one"]["inputs"].append("x")
    return i.get_signature_list()


# -- set_tensor --


def _set(m: Any, name: str, index: Any, value: Any) -> Any:
    i = ready(m, name)
    i.set_tensor(index, value)
    return i.get_tensor(index)


_BAD_OBJECT = np.array([1, 2], object)
many("test_set_tensor_{}", _set, {
    "of_a_tensor_out_of_range": ("add", 99, floats(1, 4)),
    "of_a_negative_tensor": ("add", -1, floats(1, 4)),
    "by_a_float": ("add", 0.0, floats(1, 4)),
    "by_a_name": ("add", "x", floats(1, 4)),
    "by_none": ("add", None, floats(1, 4)),
    "by_a_numpy_integer": ("add", np.int64(0), floats(1, 4)),
    "by_a_numpy_float": ("add", np.float32(0), floats(1, 4)),
    "by_a_bool": ("add", False, floats(1, 4)),
    "beyond_32_bits": ("add", 1 << 40, floats(1, 4)),
    "range_before_value": ("add", 99, [[1], [1, 2]]),
    "to_a_ragged_list": ("add", 0, [[1], [1, 2]]),
    "to_floats_of_python": ("add", 0, [[1.0, 2, 3, 4]]),
    "to_ints_of_python": ("add", 0, [[1, 2, 3, 4]]),
    "to_none": ("add", 0, None),
    "to_text": ("add", 0, "abc"),
    "to_bytes": ("add", 0, b"abc"),
    "to_bools": ("add", 0, np.ones((1, 4), bool)),
    "to_uint8": ("add", 0, np.ones((1, 4), np.uint8)),
    "to_float16": ("add", 0, np.ones((1, 4), np.float16)),
    "to_longlong": ("add", 0, np.ones((1, 4), np.longlong)),
    "to_dates": ("add", 0, np.zeros((1, 4), "M8[s]")),
    "to_objects": ("add", 0, np.array([[1, 2, 3, 4]], object)),
    "to_records": ("add", 0, np.zeros((1, 4), [("a", "f4")])),
    "to_complex": ("add", 0, np.zeros((1, 4), np.complex64)),
    "to_longdouble": ("add", 0, np.zeros((1, 4), np.longdouble)),
    "of_lower_rank": ("add", 0, floats(4)),
    "of_higher_rank": ("add", 0, floats(1, 1, 4)),
    "of_another_size": ("add", 0, floats(1, 3)),
    "of_another_batch": ("add", 0, floats(2, 4)),
    "type_before_rank": ("add", 0, np.zeros(4)),
    "to_a_scalar_array": ("add", 0, np.array(3, np.float32)),
    "of_rank_0": ("scalar", 0, np.float32(3)),
    "of_rank_0_array": ("scalar", 0, np.array(3, np.float32)),
    "of_rank_0_float": ("scalar", 0, 3.0),
    "of_rank_0_list": ("scalar", 0, np.ones(1, np.float32)),
    "to_fortran_order": ("fixed", 0, np.asfortranarray(floats(2, 3))),
    "to_a_strided_array": ("fixed", 0, floats(2, 6)[:, ::2]),
    "to_a_reversed_array": ("fixed", 0, floats(2, 3)[::-1]),
    "to_a_view_of_memory": ("fixed", 0, memoryview(floats(2, 3))),
    "to_a_masked_array": ("fixed", 0, np.ma.masked_array(floats(2, 3))),
    "to_int4": ("packed", 0, np.array([-8, 7, 0], np.int8)),
    "to_int4_in_another_shape": ("packed", 0, np.array([[-8], [7], [0]], np.int8)),
    "to_int4_from_uint8": ("packed", 0, np.array([1, 7, 0], np.uint8)),
    "to_int4_of_two": ("packed", 0, np.array([1, 7], np.int8)),
    "to_int4_too_small": ("packed", 0, np.array([-9, 7, 0], np.int8)),
    "to_int4_too_large": ("packed", 0, np.array([-8, 8, 0], np.int8)),
    "to_int4_from_a_list": ("packed", 0, [1, 2, 3]),
    "to_uint4": ("packed", 1, np.array([15, 7, 0], np.uint8)),
    "to_uint4_from_int8": ("packed", 1, np.array([1, 7, 0], np.int8)),
    "to_uint4_too_large": ("packed", 1, np.array([1, 16, 0], np.uint8)),
    "to_int2": ("packed", 2, np.array([1, 0, -1], np.int8)),
    "to_strings": ("strings", 0, np.array(["ü", "bc"])),
    "to_byte_strings": ("strings", 0, np.array([b"a", b"bc\0"])),
    "to_string_objects": ("strings", 0, np.array([b"a\0", "ü"], object)),
    "to_a_list_of_strings": ("strings", 0, ["a", "b"]),
    "to_one_string": ("strings", 0, "ab"),
    "to_one_bytes": ("strings", 0, b"ab"),
    "to_a_numpy_bytes": ("strings", 0, np.bytes_(b"ab")),
    "to_ints_in_objects": ("strings", 0, _BAD_OBJECT),
    "to_a_lone_surrogate": ("strings", 0, np.array(["\ud800", "a"], object)),
    "to_numbers_for_strings": ("strings", 0, floats(2)),
    "to_strings_of_another_rank": ("strings", 0, np.array([["a", "b"]])),
    "to_strings_of_another_size": ("strings", 0, np.array(["a"])),
    "to_a_scalar_string": ("strings", 3, np.array(b"ab\0c", "S6")),
})  # fmt: skip


def _set_type(m: Any, number: int) -> Any:
    value = np.array([1, 0]).astype(PLAIN[number].numpy)
    return _set(m, "types", number, value)


many("test_set_tensor_of_type_{}", _set_type, {d.name: (k,) for k, d in enumerate(PLAIN)})


def _set_other(m: Any, number: int) -> Any:
    return _set(m, "types", number, np.zeros(2, "U3"))


many("test_set_strings_into_type_{}", _set_other, {d.name: (k,) for k, d in enumerate(PLAIN)})


@case
def test_set_tensor_before_allocation(m: Any) -> Any:
    made(m, "add").set_tensor(0, floats(1, 4))


@case
def test_set_tensor_checks_types_before_allocation(m: Any) -> Any:
    made(m, "add").set_tensor(0, np.zeros((1, 4)))


@case
def test_set_tensor_has_no_subgraph(m: Any) -> Any:
    ready(m, "signatures").set_tensor(0, floats(3), 1)


@case
def test_set_tensor_of_empty_values_before_allocation(m: Any) -> Any:
    i = made(m, "fixed")
    i.resize_tensor_input(0, [0, 3])
    return i.set_tensor(0, floats(0, 3))


@case
def test_set_tensor_copies(m: Any) -> Any:
    i, x = ready(m, "add"), floats(1, 4)
    i.set_tensor(0, x)
    x[:] = 9
    return i.get_tensor(0)


@case
def test_set_tensor_of_an_intermediate(m: Any) -> Any:
    i = ready(m, "types")
    return i.set_tensor(1, np.zeros(2, np.float16))


# -- get_tensor and views --


def _get(m: Any, name: str, *arguments: Any) -> Any:
    return made(m, name).get_tensor(*arguments)


many("test_get_tensor_before_allocation_{}", _get, {
    "of_an_input": ("add", 0),
    "of_a_constant": ("add", 1),
    "of_an_output": ("add", 2),
    "out_of_range": ("add", 99),
    "negative": ("add", -1),
    "by_name": ("add", "x"),
    "of_int4": ("packed", 3),
    "of_int2": ("packed", 4),
    "of_subgraph_1": ("signatures", 0, 1),
    "of_subgraph_2": ("signatures", 0, 2),
    "of_subgraph_minus_1": ("signatures", 0, -1),
    "of_sparse_values": ("sparse", 2),
    "of_a_blockwise_constant": ("blockwise", 0),
    "of_scales": ("blockwise", 1),
    "of_a_dynamic_output": ("where", 1),
    "of_a_string": ("add", 3),
})  # fmt: skip


@case
def test_get_tensor_of_a_dynamic_output_before_the_first_run(m: Any) -> Any:
    ready(m, "where").get_tensor(1)


@case
def test_dynamic_output_has_its_shape_after_each_run(m: Any) -> Any:
    i = ready(m, "where")
    seen = [i.get_output_details()[0]["shape"]]
    for x in ([True, False, True, True], [False] * 3 + [True]):
        i.set_tensor(0, np.array(x))
        i.invoke()
        seen += [i.get_output_details()[0]["shape"], i.get_tensor(1)]
    return seen


@case
def test_get_tensor_of_another_subgraph_is_unallocated(m: Any) -> Any:
    ready(m, "signatures").get_tensor(0, 1)


@case
def test_get_tensor_of_empty_values(m: Any) -> Any:
    i = made(m, "fixed")
    i.resize_tensor_input(0, [0, 3])
    i.allocate_tensors()
    i.invoke()
    return i.get_tensor(3)


@case
def test_get_tensor_of_an_empty_input(m: Any) -> Any:
    i = made(m, "fixed")
    i.resize_tensor_input(0, [0, 3])
    i.allocate_tensors()
    return i.get_tensor(0)


@case
def test_get_tensor_of_a_dynamic_output_that_is_empty(m: Any) -> Any:
    i = ran(m, "where", np.zeros(4, bool))
    return i.get_tensor(1)


@case
def test_get_tensor_gives_an_owned_writable_array(m: Any) -> Any:
    y = outputs(ran(m, "add", floats(1, 4)))[0]
    return [y.flags.owndata, y.flags.writeable, y.flags.c_contiguous, type(y)]


@case
def test_get_tensor_of_strings(m: Any) -> Any:
    return outputs(ran(m, "strings", np.array(["ab", "c"])))


@case
def test_tensor_gives_a_writable_view(m: Any) -> Any:
    i = ready(m, "add")
    f = i.tensor(0)
    f()[:] = 2
    i.invoke()
    v = f()
    return [i.get_tensor(2), v.flags.owndata, v.flags.writeable, v.base is i._interpreter]


@case
def test_tensor_fails_when_its_function_is_called(m: Any) -> Any:
    return callable(ready(m, "add").tensor(99))


@case
def test_tensor_out_of_range(m: Any) -> Any:
    ready(m, "add").tensor(99)()


@case
def test_tensor_before_allocation(m: Any) -> Any:
    made(m, "add").tensor(0)()


@case
def test_tensor_of_rank_0_is_a_copy(m: Any) -> Any:
    i = ran(m, "scalar", np.float32(3))
    v = i.tensor(0)()
    i.invoke()
    return v


def _viewing(m: Any, action: str, *arguments: Any) -> Any:
    i = ready(m, "add")
    view = i.tensor(0)()
    view[:] = 0
    return getattr(i, action)(*arguments)


many("test_with_a_view_alive_{}", _viewing, {
    "invoke_refuses": ("invoke",),
    "allocate_refuses": ("allocate_tensors",),
    "resize_refuses": ("resize_tensor_input", 0, [2, 4]),
    "set_tensor_works": ("set_tensor", 0, floats(1, 4)),
    "get_tensor_works": ("get_tensor", 0),
    "reset_works": ("reset_all_variables",),
    "safe_to_run_is_false": ("_safe_to_run",),
    "ensure_safe_refuses": ("_ensure_safe",),
    "details_work": ("get_input_details",),
})  # fmt: skip


@case
def test_slice_of_a_view_counts(m: Any) -> Any:
    i = ready(m, "add")
    part = i.tensor(0)()[:, 1:]
    part[:] = 0
    i.invoke()


@case
def test_array_computed_from_a_view_does_not_count(m: Any) -> Any:
    i = ready(m, "add")
    computed = i.tensor(0)() + 1
    computed[:] = 0
    return i.invoke()


@case
def test_function_of_a_view_does_not_count(m: Any) -> Any:
    i = ready(m, "add")
    function = i.tensor(0)
    function()[:] = 1
    i.invoke()
    return function()


@case
def test_view_outlives_the_interpreter(m: Any) -> Any:
    view = ready(m, "add").tensor(0)()
    view[:] = 3
    return np.array(view)


@case
def test_live_signature_runner_counts_as_a_view(m: Any) -> Any:
    i = ready(m, "add")
    runner = i.get_signature_runner()
    assert runner
    i.invoke()


@case
def test_address_is_kept_over_runs(m: Any) -> Any:
    i = ready(m, "add")

    def address() -> int:
        return int(i.tensor(0)().__array_interface__["data"][0])

    first = address()
    i.allocate_tensors()
    i.invoke()
    return first == address()


# -- resize --


def _resize(m: Any, name: str, index: Any, size: Any, **strict: bool) -> Any:
    i = ready(m, name)
    i.resize_tensor_input(index, size, **strict)
    shape = i.get_input_details()[0]["shape"]
    i.allocate_tensors()
    return [shape, i.get_input_details()[0]["shape"], i.get_output_details()[0]["shape"]]


def _resize_strict(m: Any, name: str, index: Any, size: Any) -> Any:
    return _resize(m, name, index, size, strict=True)


many("test_resize_{}", _resize, {
    "by_a_list": ("add", 0, [3, 4]),
    "by_a_tuple": ("add", 0, (3, 4)),
    "by_an_array": ("add", 0, np.array([3, 4])),
    "by_floats_that_are_whole": ("add", 0, [3.0, 4.0]),
    "by_2_to_the_31": ("add", 0, [2**31, 4]),
    "by_text": ("add", 0, "abc"),
    "by_none": ("add", 0, None),
    "by_a_number": ("add", 0, 4),
    "by_a_matrix": ("add", 0, [[3, 4]]),
    "to_a_scalar": ("add", 0, []),
    "to_nothing": ("fixed", 0, [0, 3]),
    "to_a_negative_size": ("add", 0, [-1, 4]),
    "to_another_rank": ("fixed", 0, [2, 2, 2]),
    "to_the_same": ("add", 0, [1, 4]),
    "of_a_constant": ("add", 1, [9]),
    "of_a_constant_to_the_same": ("add", 1, [4]),
    "of_an_output": ("add", 2, [7, 7]),
    "out_of_range": ("add", 99, [1, 4]),
    "of_a_negative_tensor": ("add", -1, [1, 4]),
    "by_name": ("add", "x", [1, 4]),
    "that_does_not_fit": ("add", 0, [1, 5]),
})  # fmt: skip
many("test_strict_resize_{}", _resize_strict, {
    "of_an_unknown_size": ("add", 0, [3, 4]),
    "of_a_known_size": ("add", 0, [1, 5]),
    "of_another_rank": ("add", 0, [4]),
    "without_signature": ("fixed", 0, [4, 3]),
    "to_the_same": ("fixed", 0, [2, 3]),
    "out_of_range": ("fixed", 9, [2, 3]),
    "of_a_constant": ("add", 1, [4]),
})  # fmt: skip


@case
def test_resizing_makes_the_graph_wait_for_allocation(m: Any) -> Any:
    i = ready(m, "add")
    i.resize_tensor_input(0, [2, 4])
    i.invoke()


@case
def test_resizing_there_and_back_waits_too(m: Any) -> Any:
    i = ready(m, "add")
    i.resize_tensor_input(0, [2, 4])
    i.resize_tensor_input(0, [1, 4])
    i.invoke()


@case
def test_resizing_to_the_same_changes_nothing(m: Any) -> Any:
    i = ran(m, "add", floats(1, 4))
    i.resize_tensor_input(0, [1, 4])
    i.invoke()
    return i.get_tensor(2)


@case
def test_set_tensor_after_resize(m: Any) -> Any:
    i = ready(m, "add")
    i.resize_tensor_input(0, [2, 4])
    i.set_tensor(0, floats(2, 4))


@case
def test_get_tensor_after_resize(m: Any) -> Any:
    i = ready(m, "add")
    i.resize_tensor_input(0, [2, 4])
    i.get_tensor(0)


@case
def test_failed_resize_leaves_the_shape(m: Any) -> Any:
    i = ready(m, "add")
    try:
        i.resize_tensor_input(0, [-2, 4])
    except RuntimeError:
        return i.get_input_details()[0]["shape"]
    return None


@case
def test_strict_resize_that_fails_leaves_all_usable(m: Any) -> Any:
    i = ran(m, "add", floats(1, 4))
    try:
        i.resize_tensor_input(0, [1, 5], strict=True)
    except RuntimeError:
        i.invoke()
    return i.get_tensor(2)


@case
def test_resized_graph_runs(m: Any) -> Any:
    i = made(m, "fixed")
    i.resize_tensor_input(0, [4, 3])
    i.allocate_tensors()
    i.set_tensor(0, floats(4, 3))
    i.invoke()
    return [i.get_tensor(0), i.get_tensor(3).shape]


# -- signatures --


def _runner(m: Any, name: str, key: Any) -> Any:
    return made(m, name).get_signature_runner(key)._signature_key


many("test_signature_runner_for_{}", _runner, {
    "the_only_signature": ("add", None),
    "a_key": ("signatures", "one"),
    "none_of_two": ("signatures", None),
    "none_of_none": ("fixed", None),
    "an_unknown_key": ("signatures", "foo"),
    "an_empty_key": ("signatures", ""),
})  # fmt: skip


def _direct(m: Any, interpreter: bool, key: Any) -> Any:
    m.SignatureRunner(made(m, "add") if interpreter else None, key)


many("test_signature_runner_made_from_{}", _direct, {
    "nothing": (False, None),
    "no_key": (True, None),
    "an_empty_key": (True, ""),
    "an_unknown_key": (True, "foo"),
    "a_key": (True, "serving_default"),
})  # fmt: skip


def _call(m: Any, name: str, key: Any, values: dict[str, Any]) -> Any:
    return made(m, name).get_signature_runner(key)(**values)


many("test_calling_a_signature_with_{}", _call, {
    "its_inputs": ("signatures", "two", {"a": floats(2), "b": floats(2) + 5}),
    "another_subgraph": ("signatures", "one", {"v": floats(3) + 1}),
    "another_shape": ("signatures", "one", {"v": floats(2, 2) + 1}),
    "a_larger_batch": ("add", None, {"x": floats(3, 4)}),
    "too_few_inputs": ("signatures", "two", {"a": floats(2)}),
    "too_many_inputs": ("add", None, {"x": floats(1, 4), "q": floats(1)}),
    "no_inputs": ("add", None, {}),
    "an_unknown_name": ("add", None, {"q": floats(1, 4)}),
    "a_list": ("add", None, {"x": [[1.0, 2, 3, 4]]}),
    "another_type": ("add", None, {"x": np.zeros((1, 4))}),
    "a_shape_that_does_not_fit": ("add", None, {"x": floats(1, 5)}),
})  # fmt: skip


@case
def test_signatures_take_no_positional_inputs(m: Any) -> Any:
    made(m, "add").get_signature_runner()(floats(1, 4))


@case
def test_signature_runner_describes_its_tensors(m: Any) -> Any:
    r = made(m, "signatures").get_signature_runner("two")
    return [r.get_input_details(), r.get_output_details()]


@case
def test_signature_runner_of_subgraph_1_describes_its_tensors(m: Any) -> Any:
    r = made(m, "signatures").get_signature_runner("one")
    return [r.get_input_details(), r.get_output_details(), r._subgraph_index]


@case
def test_signature_runner_keeps_what_litert_keeps(m: Any) -> Any:
    i = made(m, "signatures")
    r = i.get_signature_runner("two")
    return [r._signature_key, r._signature_def, r._inputs, list(r._outputs),
            r._interpreter is i, r._interpreter_wrapper is i._interpreter]  # fmt: skip


@case
def test_signature_runners_are_new_each_time(m: Any) -> Any:
    i = made(m, "add")
    return i.get_signature_runner() is i.get_signature_runner()


@case
def test_tensors_of_a_signature_are_read_by_subgraph(m: Any) -> Any:
    i = made(m, "signatures")
    i.get_signature_runner("one")(v=floats(3) + 1)
    return [i.get_tensor(0, 1), i.get_tensor(1, subgraph_index=1)]


@case
def test_signature_results_are_copies(m: Any) -> Any:
    r = made(m, "add").get_signature_runner()
    y = r(x=floats(1, 4))["y"]
    r(x=floats(1, 4) + 9)
    return y


@case
def test_signature_of_scalars_gives_scalars(m: Any) -> Any:
    return ran(m, "scalar", np.float32(2)).get_tensor(1)


# -- models that break the format --


def _broken(m: Any, name: str) -> Any:
    interpreter = m.Interpreter(model_content=BROKEN[name]())
    described = len(interpreter.get_tensor_details())
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        raise RuntimeError(f"allocating: {error}") from None
    return described


many("test_model_with_{}", _broken, {name: (name,) for name in BROKEN})
