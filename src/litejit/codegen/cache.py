"""Kernels by spec: from memory, from one pack on disk, from single objects, or compiled anew.

On disk, in a private folder, entries are written once under a temporary name and renamed:

    <hash>.pack   linked code of one set of kernels: one open, read and map for a warm start
    <hash>.obj    the ELF object of one kernel, from which other packs are linked
    <hash>.prog   what others keep here: programs (litejit.engine.kept)

An entry is `code | index | trailer`. Its name is the hash of everything that its bytes depend
on: the keys of the specs, the instruction set, the system, the versions of litejit and of this
format, the compiler, and size and time of the kernels' sources. The trailer holds a hash of the
content that is keyed by that name, so that truncated, altered, foreign and misnamed entries are
all found out; they are compiled again and replaced. The cache is never needed: without a folder
that can be written, kernels are kept in memory.

The compiler is known without importing it: by the text of llvmlite's version file.
"""

from __future__ import annotations

import os
import struct
import sys
import time
import warnings
from _blake2 import blake2b  # hashlib would load OpenSSL
from _thread import RLock
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from litejit import settings
from litejit.codegen import loader
from litejit.errors import CodegenError
from litejit.record import Record

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

Spec: TypeAlias = Any  # a hashable with `.key` and `.emit(name, isa)`, as kernels.base.KernelSpec

ABI = 1  # of a kernel, and of the files here: raise it when either changes
_TRAILER = struct.Struct("<QQ32s8s")  # code bytes, index bytes, keyed hash of both, magic
_MAGIC = b"LJCACHE1"
SMALLEST_PACK = 3  # kernels: fewer are linked from their objects, which spares a file
_SUFFIXES = (".pack", ".obj", ".prog")
_LLVM_ROOM = 400 << 20  # LLVM ends the process where it gets no memory; importing it takes 170 MB
_LARGEST_ENTRY = 64 << 20
_LARGEST_FOLDER = 256 << 20
_MOST_ENTRIES = 8192
_PRUNE_SECONDS = 600.0
_STALE_SECONDS = 3600.0  # temporary files older than this were left by processes that died
_READ = os.O_RDONLY
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # not all on every system
    _READ |= getattr(os, _name, 0)
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | (_READ & ~getattr(os, "O_NONBLOCK", 0))

_loaded: dict[Isa, dict[Spec, int]] = {}
_packs: dict[str, dict[str, int]] = {}  # those loaded without specs
_locks = [RLock()]  # a signal's handler may come back while its thread holds it
_warned: set[str] = set()
_pruned: set[str] = set()


class CacheInfo(Record):
    """What is on disk: `folder` is None where kernels are kept in memory only."""

    folder: str | None
    packs: int
    kernels: int
    size_bytes: int


def available() -> bool:
    """True if kernels can be made: compiling is not switched off and llvmlite is installed."""
    return settings.get("LITEJIT_COMPILE") != "0" and bool(_compiler())


def addresses(specs: Iterable[Spec], isa: Isa) -> dict[Spec, int]:
    """Address of the compiled kernel of every spec, valid as long as the process lives.

    Raises CodegenError where kernels cannot be compiled, linked or mapped.
    """
    wanted = list(dict.fromkeys(specs))
    _renew_lock_in_children()
    with _locks[0]:
        loaded = _loaded.setdefault(isa, {})
        missing = [spec for spec in wanted if spec not in loaded]
        if missing:
            if not available():
                raise CodegenError("no compiled kernels: LITEJIT_COMPILE=0, or llvmlite is missing")
            _print_sources(missing, isa)
            for spec, address in _load(wanted, isa, loaded.keys()):
                loaded.setdefault(spec, address)
    return {spec: loaded[spec] for spec in wanted}


def info() -> CacheInfo:
    """Count the entries on disk."""
    folder = _folder()
    files = _entries(folder) if folder else []
    packs = sum(name.endswith(".pack") for name, _, _ in files)
    objects = sum(name.endswith(".obj") for name, _, _ in files)
    return CacheInfo(folder, packs, objects, sum(size for _, size, _ in files))


def clear() -> int:
    """Remove every entry on disk, of all versions; return how many. Loaded kernels stay."""
    folder = _folder()
    removed = 0
    for name, _, _ in _entries(folder) if folder else []:
        with suppress(OSError):  # another process may have removed it
            os.unlink(f"{folder}/{name}")
            removed += 1
    return removed


def _load(specs: Sequence[Spec], isa: Isa, known: Iterable[Spec]) -> Iterator[tuple[Spec, int]]:
    """Addresses of `specs`, but for those of `known` that are not on disk."""
    pack, symbols = pack_of(specs, isa)
    folder = _folder()
    found = _load_pack(folder, pack, set(symbols.values()))
    if found is None:
        from litejit.codegen import linker

        objects = dict(_objects(symbols, isa, folder, known))
        blob = linker.link(list(objects.values()))
        symbols = {spec: symbols[spec] for spec in objects}
        if len(objects) == len(specs) >= SMALLEST_PACK:
            index = "".join(f"{name} {at}\n" for name, at in blob.symbols.items())
            _write(folder, pack + ".pack", blob.code, index.encode())
            found = _load_pack(folder, pack, set(symbols.values()))
        if found is None:
            base = loader.executable(blob.code)
            found = {name: base + at for name, at in blob.symbols.items()}
    for spec, symbol in symbols.items():
        yield spec, found[symbol]


def pack_of(specs: Iterable[Spec], isa: Isa) -> tuple[str, dict[Spec, str]]:
    """Name of the pack of a set of kernels, and the symbol of each, in the order of `specs`."""
    keys = {spec: spec.key for spec in specs}
    symbols = {spec: "k" + _hash(key) for spec, key in keys.items()}
    return _hash(_surroundings(isa), *sorted(keys.values())), symbols


def pack_addresses(
    pack: str, symbols: Sequence[str], known: Iterable[Spec], isa: Isa
) -> dict[str, int] | None:
    """Addresses by symbol from a pack of exactly these, None if it is not there or not whole.

    For programs on disk, which do not know specs. Those of `known` are found by spec from now on.
    """
    _renew_lock_in_children()
    with _locks[0]:
        if pack not in _packs:
            found = _load_pack(_folder(), pack, set(symbols))
            if found is None:
                return None
            _packs[pack] = found
            loaded = _loaded.setdefault(isa, {})
            for spec, symbol in pack_of(known, isa)[1].items():
                loaded.setdefault(spec, found[symbol])
        return _packs[pack]


def entry_name(isa: Isa, *parts: str) -> str:
    """A name for `write_entry` that changes with the kernels, the compiler and the system."""
    return _hash(_surroundings(isa), *parts) + ".prog"


def read_entry(name: str) -> memoryview | None:
    """What was written under this name; None if it is missing or cannot be trusted."""
    entry = _read(_folder(), name)
    return None if entry is None else entry[0]


def write_entry(name: str, data: bytes) -> None:
    """Keep data on disk, if there is a folder; a failure is a warning."""
    _write(_folder(), name, data, b"")


def _objects(
    symbols: dict[Spec, str], isa: Isa, folder: str | None, known: Iterable[Spec]
) -> Iterator[tuple[Spec, bytes]]:
    """Objects from disk or from the compiler; none for a known spec that is not on disk."""
    for spec, symbol in symbols.items():
        name = _hash(_surroundings(isa), spec.key) + ".obj"
        entry = _read(folder, name)
        if entry is not None:
            yield spec, bytes(entry[0])
        elif spec not in known:
            code = _compile(spec, symbol, isa)
            _write(folder, name, code, b"")
            yield spec, code


def _compile(spec: Spec, symbol: str, isa: Isa) -> bytes:
    left = loader.address_space_left()
    if left < _LLVM_ROOM:
        raise CodegenError(f"LLVM may need {_LLVM_ROOM} bytes of address space, {left} are left")
    try:
        from litejit.codegen import linker, llvm
    except (ImportError, OSError) as error:
        raise CodegenError(f"llvmlite cannot be imported: {error}") from error
    try:
        code = llvm.compile_ir(spec.emit(symbol, isa), isa)
        linker.link([code])  # a kernel stands alone: refuse it here, where its name is known
    except Exception as error:  # whatever is wrong with a kernel, NumPy can do without it
        raise CodegenError(f"{spec.key} for {isa.name}: {error}") from error
    return code


def _print_sources(specs: Iterable[Spec], isa: Isa) -> None:
    level = settings.debug_level()
    for spec in specs if level >= 3 else ():
        text = spec.emit("kernel", isa)
        if level >= 4:
            from litejit.codegen import llvm

            text = llvm.assembly(text, isa)
        sys.stderr.write(f"; {spec.key} for {isa.name}\n{text}\n")


# -- what the names of entries are made of ------------------------------------------------------


def _hash(*parts: str) -> str:
    """Parts are told apart by their lengths."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode(), digest_size=16).hexdigest()


@cache
def _surroundings(isa: Isa) -> str:
    """All besides its spec that a kernel's machine code depends on."""
    target = (isa.name, isa.arch, isa.cpu, isa.features, isa.attributes, sys.platform)
    version = getattr(sys.modules["litejit"], "__version__", "")
    return _hash(str(ABI), *target, version, _compiler(), _sources())


@cache
def _compiler() -> str:
    """Identity of the installed llvmlite, "" where there is none; without importing it."""
    if "llvmlite" in sys.modules and sys.modules["llvmlite"] is None:
        return ""
    for finder in sys.meta_path:
        spec = finder.find_spec("llvmlite", None)
        if spec is not None and spec.origin:
            folder = os.path.dirname(spec.origin)
            with suppress(OSError), open(f"{folder}/_version.py", encoding="utf-8") as file:
                return file.read()
            return f"llvmlite in {folder}"
    return ""


@cache
def _sources() -> str:
    """Names, sizes and times of the files that kernels are made from."""
    codegen = os.path.dirname(os.path.abspath(__file__))
    return "\n".join([fingerprint(codegen), fingerprint(f"{os.path.dirname(codegen)}/kernels")])


def fingerprint(folder: str) -> str:
    """Names, sizes and times of the modules in a folder."""
    found = []
    with suppress(OSError), os.scandir(folder) as files:  # in a zip: the version must do
        for file in files:
            if file.name.endswith(".py"):
                stat = file.stat()
                found.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(sorted(found))


# -- the folder ---------------------------------------------------------------------------------


def _folder() -> str | None:
    """The private folder, made if missing; None: keep kernels in memory."""
    chosen = settings.get("LITEJIT_CACHE")
    if chosen == "off":
        return None
    root = os.path.abspath(os.path.expanduser(chosen)) if chosen else _user_cache()
    if root is None:
        _warn("there is no home folder to keep compiled kernels in; set LITEJIT_CACHE")
        return None
    # a folder of our own inside: permissions of the one that the user named are not ours to set
    private = f"{root}/kernels"
    try:
        _make_private(private)
    except OSError as error:
        _warn(f"compiled kernels are kept in memory only: {error}")
        return None
    return private


def _make_private(folder: str) -> None:
    """Raises OSError if `folder` cannot be made, or belongs to somebody else."""
    try:
        stat = os.lstat(folder)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(folder, 0o700)
        stat = os.lstat(folder)
    if stat.st_mode & 0o170000 != 0o040000:
        raise NotADirectoryError(f"{folder} is not a folder")
    if not hasattr(os, "geteuid"):  # on Windows a profile's folders are private by inheritance
        return
    if stat.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to user {stat.st_uid}, not to {os.geteuid()}")
    if stat.st_mode & 0o077:  # entries are checked one by one, so nothing planted is believed
        os.chmod(folder, 0o700)


def _user_cache() -> str | None:
    """Where programs keep what they can make again, as platformdirs has it (not imported: slow)."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return f"{local}/litejit/Cache" if local else None
    named = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform != "darwin" and os.path.isabs(named):
        return f"{named}/litejit"
    home = os.environ.get("HOME") or _home_of_user()
    if not home:
        return None
    return f"{home}/{'Library/Caches' if sys.platform == 'darwin' else '.cache'}/litejit"


def _home_of_user() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


# -- entries ------------------------------------------------------------------------------------


def _load_pack(folder: str | None, identity: str, symbols: set[str]) -> dict[str, int] | None:
    """Symbol -> address, if the pack is there, whole, and holds `symbols`."""
    entry = _read(folder, identity + ".pack")
    if entry is None:
        return None
    code, index = entry
    try:
        lines = [line.split(" ") for line in str(index, "ascii").splitlines()]
        offsets = {name: int(at) for name, at in lines}
    except ValueError:
        return None
    if offsets.keys() != symbols:
        return None
    base = loader.executable(bytes(code), f"{folder}/{identity}.pack")
    return {name: base + at for name, at in offsets.items()}


def _read(folder: str | None, name: str) -> tuple[memoryview, memoryview] | None:
    """(code, index) of an entry; None if it is missing or cannot be trusted."""
    if folder is None:
        return None
    try:
        fd = os.open(f"{folder}/{name}", _READ)
    except OSError:
        return None
    try:
        stat = os.fstat(fd)
        size = stat.st_size
        is_file = stat.st_mode & 0o170000 == 0o100000
        if not is_file or not _is_ours(stat) or not _TRAILER.size <= size <= _LARGEST_ENTRY:
            return None
        data = os.read(fd, size)
    except OSError:
        return None
    finally:
        os.close(fd)
    return _checked(name, data) if len(data) == size else None


def _is_ours(stat: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    return stat.st_uid == os.geteuid() and not stat.st_mode & 0o022


def _checked(name: str, data: bytes) -> tuple[memoryview, memoryview] | None:
    body = memoryview(data)[: -_TRAILER.size]
    code_size, index_size, digest, magic = _TRAILER.unpack_from(data, len(body))
    if magic != _MAGIC or code_size + index_size != len(body) or digest != _digest(name, body):
        return None
    return body[:code_size], body[code_size:]


def _digest(name: str, body: bytes | memoryview) -> bytes:
    return blake2b(body, key=name.encode(), digest_size=32).digest()


def _write(folder: str | None, name: str, code: bytes, index: bytes) -> None:
    """Readers see the old entry or the whole new one; a failure is a warning."""
    if folder is None:
        return
    body = code + index
    data = body + _TRAILER.pack(len(code), len(index), _digest(name, body), _MAGIC)
    temporary = f"{folder}/tmp-{os.getpid()}-{os.urandom(8).hex()}"
    try:
        _prune(folder)
        try:
            _write_new(temporary, data)
            _move(temporary, f"{folder}/{name}")
        except BaseException:
            with suppress(OSError):  # what failed may be the creation of this very file
                os.unlink(temporary)
            raise
    except OSError as error:
        _warn(f"a compiled kernel could not be kept on disk: {error}")


def _write_new(path: str, data: bytes) -> None:
    fd = os.open(path, _CREATE, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)


def _move(temporary: str, path: str) -> None:
    try:
        os.replace(temporary, path)
    except (IsADirectoryError, PermissionError):
        os.rmdir(path)  # an empty folder in the entry's place
        os.replace(temporary, path)


def _entries(folder: str) -> list[tuple[str, int, float]]:
    """(name, size, time of writing) of every entry and of stale temporary files."""
    found = []
    stale = time.time() - _STALE_SECONDS
    with os.scandir(folder) as files:
        for file in files:
            with suppress(FileNotFoundError):  # another process may have removed it
                stat = file.stat(follow_symlinks=False)
                left = file.name.startswith("tmp-") and stat.st_mtime < stale
                if left or file.name.endswith(_SUFFIXES):
                    found.append((file.name, stat.st_size, stat.st_mtime))
    return found


def _prune(folder: str) -> None:
    """Now and then: remove stale temporary files and, in a full folder, the oldest half."""
    if folder in _pruned:
        return
    _pruned.add(folder)
    if not _is_time_to_prune(f"{folder}.pruned"):
        return
    files = sorted(_entries(folder), key=lambda file: file[2])
    total, count = sum(size for _, size, _ in files), len(files)
    full = total > _LARGEST_FOLDER or count > _MOST_ENTRIES
    for name, size, _ in files:
        excess = full and (total > _LARGEST_FOLDER // 2 or count > _MOST_ENTRIES // 2)
        if excess or name.startswith("tmp-"):
            with suppress(OSError):  # another process may have removed it
                os.unlink(f"{folder}/{name}")
                total, count = total - size, count - 1


def _is_time_to_prune(stamp: str) -> bool:
    """Did nobody prune for ten minutes? Looking through a large folder takes 50 ms."""
    with suppress(OSError):
        if abs(time.time() - os.lstat(stamp).st_mtime) < _PRUNE_SECONDS:
            return False
    with suppress(OSError):
        os.unlink(stamp)
    with suppress(FileExistsError):  # another process was faster
        os.close(os.open(stamp, _CREATE, 0o600))
    return True


def _warn(text: str) -> None:
    """Once a process for each reason."""
    if text.partition(":")[0] not in _warned:
        _warned.add(text.partition(":")[0])
        warnings.warn(f"litejit: {text}", RuntimeWarning, stacklevel=2)


@cache
def _renew_lock_in_children() -> None:
    """A child must not wait for a thread that exists in its parent only."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _locks.__setitem__(0, RLock()))
