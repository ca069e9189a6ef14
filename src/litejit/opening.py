"""What all interfaces share: a file becomes a LoadedModel, a LoadedModel becomes runners."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from litejit import settings
from litejit.codegen.isa import Isa
from litejit.engine import budget, kept
from litejit.engine.collector import collection_paused
from litejit.engine.runner import LoadedModel, SubgraphRunner, make_runners
from litejit.model import read_content, read_model
from litejit.ops.resolver import OpResolver


def load_model(source: Any) -> LoadedModel:
    """Read a model from a path (str, os.PathLike) or from the file's content (bytes-like).

    Raises ModelError where it cannot be read.
    """
    with collection_paused(), budget.shortage_named("reading a model"):
        if isinstance(source, (str, os.PathLike)):
            with suppress(OSError, ValueError):  # reading it says what is wrong
                budget.check(os.stat(source).st_size, f"the file {os.fspath(source)!r}")
        data = read_content(source)
        digest = kept.Digest(data) if len(data) <= kept.LARGEST_FILE else None
        return LoadedModel(read_model(data, verify=False), data, digest)


def load_path(path: Any) -> LoadedModel:
    """Read a model from a path: str, bytes or os.PathLike. Raises ModelError."""
    return load_model(os.fsdecode(path))


def open_runners(
    loaded: LoadedModel, resolver: OpResolver, *, threads: int = 1, preserve_all: bool = False
) -> list[SubgraphRunner]:
    """The runners of all subgraphs of one new interpreter of a model.

    Raises ModelError where the model breaks a rule of the format.
    """
    isa = host_isa() if resolver.compiled else None
    with collection_paused(), budget.shortage_named("opening a model"):
        return make_runners(loaded, resolver, isa=isa, threads=threads, preserve_all=preserve_all)


def host_isa() -> Isa | None:
    """The instruction set to compile for, or None where kernels cannot be compiled."""
    if settings.get("LITEJIT_COMPILE") == "0":
        return None
    from litejit.codegen import cache, isa

    return isa.host() if cache.available() else None
