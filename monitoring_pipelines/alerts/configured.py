"""Whether what an alert is about is still configured (A-202): nobody will ever say that it is over otherwise.

What belongs here: which checks of which sources still run. What does not: ending alerts (``contributions`` for checks,
``rules`` for rules).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring_pipelines.quality import custom, registry

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

#: Why an alert ended whose check, rule or source was taken out of the configuration.
NOT_CONFIGURED = "no longer configured"


@dataclass(frozen=True)
class ConfiguredChecks:
    """Checks that run with the present configuration.

    ``by_source``: per enabled source and run type the ids of its checks; ``custom``: checks of one's own, which belong
    to every source, with their run types (none: the check chooses itself).
    """

    by_source: dict[str, dict[str, frozenset[str]]]
    custom: dict[str, tuple[str, ...]]

    def has(self, source_id: str, check_id: str, contributor: str) -> bool:
        """Whether a result of ``check_id`` for ``source_id`` can still come from ``contributor``."""
        runs = self.by_source.get(source_id)
        if runs is None:
            return False
        if contributor not in runs:
            return True  # what the tick says is a rule's answer; rules end by themselves
        if check_id in self.custom:
            return not self.custom[check_id] or contributor in self.custom[check_id]
        return check_id in runs[contributor]


_last: list[tuple[Settings, ConfiguredChecks]] = []


def configured_checks(settings: Settings) -> ConfiguredChecks:
    """What still runs; the same object for the same settings, since installed checks take time to look for."""
    if not _last or _last[0][0] is not settings:
        _last[:] = [(settings, _configured(settings))]
    return _last[0][1]


def _configured(settings: Settings) -> ConfiguredChecks:
    """Enabled sources, checks that are not disabled and whose inputs are mapped (E-510)."""
    by_source: dict[str, dict[str, frozenset[str]]] = {}
    for source in settings.enabled_sources:
        inputs = registry.configured_inputs(source)
        runs: dict[str, frozenset[str]] = {}
        for run in ("quick", "full", "deep"):
            extended = settings.checks.full.extended if run == "full" else True
            checks = registry.checks_of(run, extended=extended, disabled=settings.checks.disabled)
            applicable = {check.id for check in checks if not check.missing_inputs(inputs)}
            runs[run] = frozenset({registry.SOURCE_CHECK, *applicable})
        by_source[source.id] = runs
    return ConfiguredChecks(by_source, {check.id: check.types for check in custom.discover(settings)})
