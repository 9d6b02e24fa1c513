"""What every command gets: the global options, and the configuration when it asks for it.

What belongs here: ``Context``. What does not: parsing (``app``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from monitoring_pipelines.cli.output import write, write_json
from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.config.source_schema import SourceSettings
    from monitoring_pipelines.warehouse.connect import Warehouse


@dataclass
class Context:
    """Global options (surfaces §7) and what follows from them."""

    config: str | None = None
    now: str | None = None
    source: list[str] = field(default_factory=list)
    json: bool = False
    log_level: str = "warning"
    _settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The configuration, read once; ConfigError if it is not usable."""
        if self._settings is None:
            from monitoring_pipelines.config import load_settings

            self._settings = load_settings(self.config)
        return self._settings

    @property
    def clock(self) -> Clock:
        """The product's clock, fixed by ``--now`` or MP_NOW (E-005)."""
        from monitoring_pipelines.clock import current_clock

        return current_clock(self.now)

    def sources(self) -> list[SourceSettings]:
        """Sources named by ``--source``, else all enabled ones.

        Raises:
            ConfigError: Unknown source.
            UsageError: None is configured.
        """
        if self.source:
            return [self.settings.source(name) for name in self.source]
        found = self.settings.enabled_sources
        if not found:
            raise UsageError("no source is configured", "add one to `sources`, or run `mp init`")
        return found

    def warehouse(self, must_exist: bool = False) -> Warehouse:
        """The warehouse of the configuration.

        Args:
            must_exist: Refuse instead of creating it.
        """
        from monitoring_pipelines.warehouse.connect import Warehouse

        path = self.settings.warehouse_path
        if must_exist and not path.exists():
            raise UsageError(f"there is no warehouse at {path}", "run `mp extract --once` first")
        return Warehouse(path)

    def emit(self, data: Any, text: str | Callable[[], str]) -> None:
        """Write ``data`` with ``--json``, else ``text``."""
        if self.json:
            write_json(data)
        else:
            write(text() if callable(text) else text)


def _whole(_type: Any, tokens: Sequence[Any]) -> int:
    return int(tokens[0].value)


#: A whole number; the library rounds ``1.5`` to 2 instead of refusing it.
Whole = Annotated[int, Parameter(converter=_whole)]
OptionalWhole = Annotated[int | None, Parameter(converter=_whole)]
#: Annotation of the context parameter of a command.
Ctx = Annotated[Context, Parameter(parse=False)]
