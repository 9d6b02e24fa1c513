"""Benchmarks that need nothing else running, in their small form, one after another: ``make bench``. Each module says how to run the full one."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "bulk_read", "warehouse_lock", "minute_tick", "backfill", "checks", "repair", "expectations", "alerts", "api",
)  # fmt: skip


def main() -> int:
    """Run every benchmark; the number that failed."""
    failed = 0
    for name in BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        failed += bool(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode)
    return failed


if __name__ == "__main__":
    sys.exit(main())
