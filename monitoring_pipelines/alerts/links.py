"""Addresses that messages and rules lead to: the dashboard and the runbooks (A-309).

What belongs here: the configured bases and their defaults. What does not: which links a message carries (``messages``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from monitoring_pipelines.config.schema_services import PAGE_VARIABLE, address

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings


def dashboard_of(settings: Settings) -> str:
    """Base address of the pages, without a slash at its end: as configured for readers, else where `mp up` serves them."""
    given = settings.alerts.links.dashboard or os.environ.get(PAGE_VARIABLE)
    return given.rstrip("/") if given else address(settings.api.host, settings.api.port)


def runbook_address(settings: Settings, name: str) -> str:
    """Address of one runbook: below ``alerts.links.runbooks``, else the page of the dashboard.

    Args:
        settings: The configuration.
        name: Rule or check id, which is the runbook's file name without suffix.
    """
    given = settings.alerts.links.runbooks
    return f"{given.rstrip('/')}/{name}.md" if given else f"{dashboard_of(settings)}/runbooks/{name}"
