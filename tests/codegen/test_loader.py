from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from litejit.codegen import isa, linker, llvm, loader
from litejit.errors import CodegenError

TEXT = "define i64 @answer() { ret i64 42 }"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps memory as Linux does")


@pytest.fixture(scope="module")
def code() -> bytes:
    return linker.link([llvm.compile_ir(TEXT, isa.host())]).code


def answer(base: int) -> int:
    result: int = ctypes.CFUNCTYPE(ctypes.c_int64)(base)()
    return result


@pytest.mark.parametrize("way", [loader.map_memfd, loader.map_file, loader.map_anonymous])
def test_every_way_gives_code_that_runs(way: object, code: bytes, tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_bytes(code + b"index")
    base = way(code, str(path))
    assert base % 4096 == 0
    assert answer(base) == 42


def test_memory_is_never_writable_and_executable(code: bytes) -> None:
    base = loader.executable(code)
    ranges = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    mine = [line[1] for line in ranges if int(line[0].split("-")[0], 16) == base]
    assert mine == ["r-xp"]


def test_the_next_way_is_tried_when_one_fails(
    code: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memfd(*_: object) -> int:
        raise OSError("forbidden")

    monkeypatch.setattr(os, "memfd_create", no_memfd)
    path = tmp_path / "code"
    path.write_bytes(code)
    assert answer(loader.executable(code, str(path))) == 42
    assert answer(loader.executable(code)) == 42


def test_a_file_that_changed_is_not_run(code: bytes, tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_bytes(bytes(len(code)))
    with pytest.raises(OSError, match="changed"):
        loader.map_file(code, str(path))


def test_all_reasons_are_told_when_no_way_works(
    code: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(loader.mmap, "mmap", refuse)
    with pytest.raises(CodegenError, match="map_memfd: not here; .*map_anonymous: not here"):
        loader.executable(code)


def test_no_code_is_refused() -> None:
    with pytest.raises(CodegenError, match="no code"):
        loader.executable(b"")


def test_code_loads_where_files_may_not_grow(code: bytes) -> None:
    script = (
        "import resource, ctypes, sys\n"
        "from litejit.codegen import loader\n"
        "code = bytes.fromhex(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int64)(loader.executable(code))())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, code.hex()], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "42"
