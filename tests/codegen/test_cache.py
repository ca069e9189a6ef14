from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litejit.codegen import cache, isa, llvm
from litejit.errors import CodegenError
from litejit.record import Record

HOST = isa.host()
LINUX = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX permissions")


class Answer(Record):
    """A kernel that stores a number."""

    number: int

    @property
    def key(self) -> str:
        return f"answer {self.number}"

    def emit(self, name: str, row: isa.Isa) -> str:
        return f"""define void @{name}(ptr %a, i64 %b, i64 %e, i64 %w) {row.attributes} {{
          store i64 {self.number}, ptr %a
          ret void
        }}"""


class Text(Record):
    """A kernel of the given text."""

    text: str

    @property
    def key(self) -> str:
        return f"text {len(self.text)}"

    def emit(self, name: str, _: isa.Isa) -> str:
        return self.text.replace("NAME", name)


SPECS = [Answer(number) for number in range(5, 9)]
SCRIPT = """
from __future__ import annotations
import ctypes, sys
from litejit.codegen import cache, isa
from litejit.record import Record

class Answer(Record):
    number: int
    key = property(lambda self: f"answer {self.number}")
    def emit(self, name, row):
        body = f"store i64 {self.number}, ptr %a"
        return f"define void @{name}(ptr %a, i64 %b, i64 %e, i64 %w) {{ {body}\\n ret void }}"

specs = [Answer(number) for number in range(20)]
found = cache.addresses(specs, isa.host())
result = ctypes.c_int64()
for spec in specs:
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(found[spec])(ctypes.addressof(result))
    assert result.value == spec.number
print("llvmlite" in sys.modules)
"""


def run(address: int) -> int:
    result = ctypes.c_int64()
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(address)
    kernel(ctypes.addressof(result), 0, 1, 0)
    return result.value


class Process:
    """What a fresh process would find: `load()` forgets all kernels and counts compilations."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.folder = folder, folder / "kernels"
        self.compiled: list[str] = []
        self.patch = monkeypatch
        compile_ir = llvm.compile_ir

        def counted(ir: str, row: isa.Isa) -> bytes:
            self.compiled.append(ir)
            return compile_ir(ir, row)

        monkeypatch.setattr(llvm, "compile_ir", counted)
        monkeypatch.setenv("LITEJIT_CACHE", str(folder))
        monkeypatch.setattr(cache, "_PRUNE_SECONDS", 0.0)  # each load looks through the folder

    def load(self, specs: list[Answer] = SPECS, row: isa.Isa = HOST) -> int:
        self.forget()
        found = cache.addresses(specs, row)
        assert [run(found[spec]) for spec in specs] == [spec.number for spec in specs]
        return len(self.compiled)

    def forget(self) -> None:
        self.compiled.clear()
        for name in ("_loaded", "_packs", "_warned", "_pruned"):
            self.patch.setattr(cache, name, type(getattr(cache, name))())

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    yield Process(tmp_path / "cache", monkeypatch)
    monkeypatch.undo()
    cache._compiler.cache_clear()
    cache._surroundings.cache_clear()


def script(folder: Path, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "LITEJIT_CACHE": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, **options
    )  # type: ignore[call-overload,no-any-return]


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def test_a_second_process_compiles_nothing(process: Process) -> None:
    assert process.load() == len(SPECS)
    assert process.load() == 0
    assert cache.info() == cache.CacheInfo(
        str(process.folder), 1, len(SPECS), sum(file.stat().st_size for file in process.files())
    )


def test_concurrent_cold_starts_agree_and_a_warm_one_never_imports_llvmlite(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cache"
    started = [script(folder) for _ in range(3)]
    assert "True" in [output(one) for one in started]
    assert output(script(folder)) == "False"
    assert sorted(file.suffix for file in (folder / "kernels").iterdir()) == [
        *[".obj"] * 20,
        ".pack",
    ]


def test_another_set_of_the_same_kernels_is_linked_from_their_objects(process: Process) -> None:
    process.load()
    assert process.load(SPECS[:3]) == 0
    assert process.load([*SPECS, Answer(99)]) == 1
    assert cache.info().packs == 3


def test_few_kernels_are_linked_from_their_objects_each_time(process: Process) -> None:
    process.load(SPECS[:2])
    assert [file.suffix for file in process.files()] == [".obj", ".obj"]
    assert process.load(SPECS[:2]) == 0


def test_a_folder_is_looked_through_now_and_then(process: Process) -> None:
    process.patch.setattr(cache, "_PRUNE_SECONDS", 600.0)
    process.load()
    looks = []
    process.patch.setattr(cache, "_entries", lambda folder: looks.append(folder) or [])
    process.load([Answer(40)])
    assert not looks
    os.utime(process.folder.parent / "kernels.pruned", (1, 1))
    process.load([Answer(41)])
    assert len(looks) == 1


def test_a_folder_of_many_entries_loses_its_oldest_half(process: Process) -> None:
    process.load()
    process.patch.setattr(cache, "_MOST_ENTRIES", 4)
    process.load([Answer(42)])
    assert len(process.files()) == 2 + 1


def test_a_process_keeps_the_addresses_it_gave(process: Process) -> None:
    process.load(SPECS[:2])
    before = cache.addresses(SPECS[:2], HOST)
    process.patch.setenv("LITEJIT_CACHE", "off")
    after = cache.addresses(SPECS, HOST)
    assert {spec: after[spec] for spec in before} == before
    assert len(process.compiled) == 2 + 2


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def flip_digest(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + bytes(100))


def link_to_zeros(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def link_to_a_good_copy(file: Path) -> None:
    copy = file.parent / f"copy-of-{file.name}"
    file.rename(copy)
    file.symlink_to(copy)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def open_to_others(file: Path) -> None:
    file.chmod(0o622)


DAMAGES = [
    flip,
    flip_digest,
    truncate,
    lengthen,
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(bytes(file.stat().st_size)),
    link_to_zeros,
    link_to_a_good_copy,
    make_folder,
    make_pipe,
    open_to_others,
]
NAMES = [getattr(one, "__name__", "").strip("<>") for one in DAMAGES]


@LINUX
@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_damaged_entries_are_compiled_again_and_healed(
    process: Process, damage: Callable[[Path], object]
) -> None:
    process.load()
    for file in process.files():
        damage(file)
    assert process.load() == len(SPECS)
    assert process.load() == 0


@pytest.mark.parametrize("kind", ["pack", "obj"])
def test_one_damaged_kind_costs_no_more_than_it_must(process: Process, kind: str) -> None:
    process.load()
    for file in process.folder.glob(f"*.{kind}"):
        flip(file)
    assert process.load() == 0  # linked from the objects, or all from the pack


def test_swapped_entries_are_found_out(process: Process) -> None:
    process.load()
    process.load(list(reversed([Answer(n) for n in range(15, 19)])))
    for kind in ("pack", "obj"):
        files = [file for file in process.files() if file.suffix == f".{kind}"]
        contents = [file.read_bytes() for file in files]
        for file, content in zip(files, contents[1:] + contents[:1], strict=True):
            file.write_bytes(content)
    assert process.load() == len(SPECS)
    assert process.load() == 0


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
def test_entries_of_other_users_are_not_believed(process: Process) -> None:
    process.load()
    for file in process.files():
        os.chown(file, 12345, 12345)
    assert process.load() == len(SPECS)
    os.chown(process.folder, 12345, 12345)
    with pytest.warns(RuntimeWarning, match="belongs to user 12345"):
        assert process.load() == len(SPECS)


@LINUX
def test_the_folder_is_private_and_made_so_again(process: Process) -> None:
    process.load()
    assert process.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in process.files()} == {0o600}
    process.folder.chmod(0o777)
    assert process.load() == 0
    assert process.folder.stat().st_mode & 0o777 == 0o700


def test_permissions_of_the_folder_the_user_named_are_left_alone(process: Process) -> None:
    process.root.mkdir(mode=0o755)
    process.load()
    assert process.root.stat().st_mode & 0o777 == 0o755


@LINUX
@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/x", "x" * 300])
def test_a_folder_that_cannot_be_made_is_one_warning(process: Process, place: str) -> None:
    process.patch.setenv("LITEJIT_CACHE", place)
    with pytest.warns(RuntimeWarning, match="kept in memory only") as told:
        assert process.load() == len(SPECS)
        assert cache.addresses([Answer(20)], HOST)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cache.info().folder is None
        assert cache.clear() == 0


def test_off_writes_nothing(process: Process) -> None:
    process.patch.setenv("LITEJIT_CACHE", "off")
    assert process.load() == len(SPECS)
    assert not process.root.exists()
    assert cache.info() == cache.CacheInfo(None, 0, 0, 0)


@LINUX
def test_a_full_disk_is_survived_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import resource

    folder = tmp_path / "cache"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # noqa: E731
    assert output(script(folder, preexec_fn=limit)) == "True"
    assert list((folder / "kernels").iterdir()) == []
    assert output(script(folder)) == "True"
    assert output(script(folder)) == "False"


@pytest.mark.parametrize("part", ["_compiler", "_sources"])
def test_another_compiler_or_source_makes_other_entries(process: Process, part: str) -> None:
    process.load()
    process.patch.setattr(cache, part, lambda: "something else")
    cache._surroundings.cache_clear()
    assert process.load() == len(SPECS)
    assert cache.info().packs == 2


def test_instruction_sets_do_not_share_entries(process: Process) -> None:
    for row in isa.host_isas()[:2]:
        assert process.load(row=row) == len(SPECS)
        assert process.load(row=row) == 0


def test_clear_removes_entries_and_nothing_else(process: Process) -> None:
    process.load()
    foreign = process.folder / "notes.txt"
    foreign.write_text("mine")
    assert cache.clear() == len(SPECS) + 1
    assert process.files() == [foreign]
    assert process.load() == len(SPECS)


def test_stale_temporary_files_are_removed_and_fresh_ones_kept(process: Process) -> None:
    process.load()
    old, new = process.folder / "tmp-1-dead", process.folder / "tmp-2-alive"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    process.load([Answer(30)])
    assert new.exists()
    assert not old.exists()


def test_a_full_folder_loses_its_oldest_entries(process: Process) -> None:
    process.load()
    process.patch.setattr(cache, "_LARGEST_FOLDER", 1500)
    for age, file in enumerate(process.files()):
        os.utime(file, (1000 + age, 1000 + age))
    newest = process.files()[-1]
    process.load([Answer(31)])
    assert newest.exists()
    assert sum(file.stat().st_size for file in process.files()) < 3000


def test_switched_off_there_are_no_kernels(process: Process) -> None:
    process.patch.setenv("LITEJIT_COMPILE", "0")
    assert not cache.available()
    with pytest.raises(CodegenError, match="LITEJIT_COMPILE=0"):
        process.load()


def test_without_llvmlite_there_are_no_kernels(process: Process) -> None:
    cache._compiler.cache_clear()
    process.patch.setitem(sys.modules, "llvmlite", None)
    assert not cache.available()
    with pytest.raises(CodegenError, match="llvmlite is missing"):
        process.load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("define void @NAME() { ret i64 }", "LLVM refuses a kernel"),
        (
            "declare void @outside()\ndefine void @NAME() { call void @outside()\n ret void }",
            "undefined symbol outside",
        ),
    ],
)
def test_a_kernel_that_cannot_be_made_is_named(process: Process, text: str, words: str) -> None:
    with pytest.raises(CodegenError, match=f"text {len(text)} for {HOST.name}: .*{words}"):
        cache.addresses([Text(text)], HOST)
    assert cache.info().kernels == 0


def test_debug_levels_print_text_and_assembly(
    process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    process.patch.setenv("LITEJIT_DEBUG", "3")
    process.load()
    assert "define void @kernel" in capsys.readouterr().err
    process.patch.setenv("LITEJIT_DEBUG", "4")
    process.load()
    assert ".globl\tkernel" in capsys.readouterr().err


@LINUX
def test_the_default_folder_follows_the_environment(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache._user_cache() == f"{tmp_path}/xdg/litejit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache._user_cache() == f"{tmp_path}/.cache/litejit"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache._user_cache() == f"{tmp_path}/Library/Caches/litejit"
    monkeypatch.setenv("HOME", "")
    assert cache._user_cache() not in (None, "/Library/Caches/litejit")
