"""The command line ``monitoring-pipelines``, short ``mp`` (surfaces §7).

What belongs here: the entry point. What does not: commands (one module per group) and the application object (``app``).
Nothing heavy is imported before a command needs it: ``mp --help`` answers at once.
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    import sys

    from monitoring_pipelines.cli.app import run

    sys.exit(run(sys.argv[1:]))
