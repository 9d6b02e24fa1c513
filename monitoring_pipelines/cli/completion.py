"""``mp completion``: the script that lets a shell complete commands and options.

What belongs here: printing it. What does not: installing it, which is the user's shell's own affair.
"""

from __future__ import annotations

import sys
from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print the completion script of a shell, for example ``mp completion bash > ~/.local/share/bash-completion/completions/mp``.

    Args:
        shell: bash, zsh or fish.
    """
    from monitoring_pipelines.cli.app import app

    sys.stdout.write(app.meta.generate_completion(prog_name="mp", shell=shell) + "\n")
    return 0
