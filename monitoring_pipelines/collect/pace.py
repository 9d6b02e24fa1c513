"""How often collecting takes a turn.

What belongs here: periods, without imports, because the code location asks for them when it is loaded. What does not:
collecting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

#: Seconds between two turns while targets are configured.
PERIOD_S = 15.0
#: Seconds between two samples of one of the product's own processes.
OWN_PERIOD_S = 60.0


def period_s(settings: Settings) -> float:
    """Seconds between two turns: what configured targets need, else what the product's own samples need (E-124)."""
    return PERIOD_S if settings.probes or settings.scrapes else OWN_PERIOD_S
