"""The pages: one module per page with its route, its strings and the name of its template.

To add a page: a module here with ``router`` and ``STRINGS``, a template in ``templates/``, its name in ``PAGES`` and,
if it belongs in the navigation, a line in ``NAVIGATION``. What a page shows comes from the functions behind the JSON
API, so that page and API cannot disagree.

What belongs here: HTML. What does not: figures (``published``, ``state``, ``api.summaries``).
"""

from __future__ import annotations

#: Modules below ``api.pages`` with ``router`` and ``STRINGS``.
PAGES = (
    "login", "overview", "endpoints", "tasks", "consistency", "notifications", "silences", "alerts", "scheduler", "job_runs",
    "repair", "resources", "self", "checks", "partitions", "downloads", "runbooks", "problems",
)  # fmt: skip
#: Path → key of its title among the strings, in the order of the navigation.
NAVIGATION = (
    ("/", "nav.overview"),
    ("/endpoints", "nav.endpoints"),
    ("/tasks", "nav.tasks"),
    ("/consistency", "nav.consistency"),
    ("/alerts", "nav.alerts"),
    ("/repair", "nav.repair"),
    ("/scheduler-monitoring", "nav.jobs"),
    ("/resources", "nav.resources"),
    ("/ingest", "nav.ingest"),
    ("/partitions", "nav.partitions"),
    ("/self", "nav.self"),
    ("/runbooks", "nav.runbooks"),
)
