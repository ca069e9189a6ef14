"""`litejit show MODEL`: what becomes of a model, stage by stage."""

from __future__ import annotations

import click

from litejit.engine.steps import Lowered, NativeStep
from litejit.interpreter import Interpreter
from litejit.model import Model, read_model
from litejit.ops.base import Node
from litejit.types import TensorType

STAGES = ("model", "nodes", "steps", "plan", "program", "ir", "asm")


@click.command("show")
@click.argument("model", type=click.Path())
@click.option("--stage", type=click.Choice(STAGES), default="model", show_default=True)
def command(model: str, stage: str) -> None:
    """Print MODEL as the file says it, as nodes, steps, memory plan, program, IR or assembly."""
    if stage == "model":
        click.echo("\n".join(_model_lines(read_model(model))))
        return
    interpreter = Interpreter(model)
    interpreter.allocate_tensors()
    section = interpreter._runner.sections[0]
    lowered = section.program.lowered
    if stage == "nodes":
        lines = [_node_line(node) for node in section.graph.nodes]
    elif stage in ("steps", "program"):
        lines = str(section.program).splitlines()
    elif stage == "plan":
        lines = _plan_lines(lowered, section.graph.types)
    else:
        lines = _code_lines(lowered, assembly=stage == "asm")
    click.echo("\n".join(lines))


def _model_lines(model: Model) -> list[str]:
    lines = [f"schema version {model.version}: {model.description}"]
    for number, graph in enumerate(model.subgraphs):
        lines.append(f"subgraph {number} {graph.name!r}: {graph.inputs} -> {graph.outputs}")
        for index, tensor in enumerate(graph.tensors):
            kind = "variable" if tensor.is_variable else f"buffer {tensor.buffer}"
            lines.append(f"  tensor {index} {tensor.name!r} {tensor.dtype} {tensor.shape} {kind}")
        for index, operator in enumerate(graph.operators):
            name = model.operator_name(operator)
            lines.append(f"  operator {index} {name}: {operator.inputs} -> {operator.outputs}")
    for signature in model.signatures:
        lines.append(f"signature {signature.key!r} of subgraph {signature.subgraph}")
    return lines


def _node_line(node: Node) -> str:
    parts = "+".join(part.name for part in node.chain) or node.name
    return f"{node.index:4d} {parts}: {_types(node.inputs)} -> {_types(node.outputs)}"


def _types(tensors: tuple[TensorType | None, ...]) -> str:
    return ", ".join(
        "-" if t is None else f"%{t.index} {t.dtype}{list(t.shape) if t.shape is not None else '?'}"
        for t in tensors
    )


def _plan_lines(lowered: Lowered, types: dict[int, TensorType]) -> list[str]:
    from litejit.engine.plan import plan_memory

    plan = plan_memory(lowered.requests)
    names: dict[int, list[str]] = {}
    for index, number in lowered.home.items():
        names.setdefault(number, []).append(f"%{index} {types[index].name}")
    lines = [f"arena of {plan.arena_bytes} bytes"]
    for number, request in enumerate(lowered.requests):
        who = " = ".join(names.get(number, ["temporary"]))
        where = f"{plan.offsets[number]:10d} + {request.nbytes:<9d}"
        lines.append(f"{where} steps {request.first} to {request.last}: {who}")
    return lines


def _code_lines(lowered: Lowered, *, assembly: bool) -> list[str]:
    from litejit.codegen import isa, llvm

    lines = []
    specs = dict.fromkeys(s.spec for s in lowered.steps if isinstance(s, NativeStep))
    for spec in specs:
        text = spec.emit("kernel", isa.host())
        lines += [f"; {spec!r}", llvm.assembly(text, isa.host()) if assembly else text]
    return lines
