"""``python -m monitoring_pipelines.api.run_check TYPE HOURS SOURCE``: one check in a process of its own.

What belongs here: arguments and the line of JSON that tells the server which run it was. What does not: the check.
"""

from __future__ import annotations

import json
import sys
from typing import cast

from monitoring_pipelines.errors import ProductError


def main(arguments: list[str]) -> int:
    """Run the check named on the command line; the configuration is that of MP_CONFIG."""
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.config.secrets import mask
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality import runs
    from monitoring_pipelines.quality.model import RunType
    from monitoring_pipelines.state import StateStore

    run_type, hours, source = arguments
    try:
        settings = load_settings(None)
        pipe = Pipeline.of(settings, current_clock())
        run = runs.execute(
            pipe, StateStore.of(settings), cast(RunType, run_type), trigger="api",
            hours_back=int(hours) if hours else None, sources=[source] if source else None,
        )  # fmt: skip
        answer: dict[str, object] = {"run_id": run.run_id}
    except ProductError as error:
        answer = {"code": error.code, "message": mask(error.message)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if "run_id" in answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
