"""What a server does to stay small."""

from __future__ import annotations

import subprocess
import sys

#: Prints what DuckDB's allocator was told, and what a process started later would be told.
_ASK = """
import ctypes, os
from monitoring_pipelines.lean import give_memory_back
give_memory_back()
import _duckdb
areas, size = ctypes.c_uint(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_uint))
ask = getattr(ctypes.CDLL(_duckdb.__file__), "duckdb_je_mallctl", None)
code = ask(b"opt.narenas", ctypes.byref(areas), ctypes.byref(size), None, ctypes.c_size_t(0)) if ask else 0
print(code, areas.value if ask else 1, os.environ.get("DUCKDB_JE_MALLOC_CONF"))
"""


def test_duckdb_of_a_server_keeps_one_area_and_later_processes_have_their_own_settings() -> None:
    answer = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["0", "1", "None"], answer.stderr
