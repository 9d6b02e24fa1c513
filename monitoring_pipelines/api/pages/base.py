"""What all pages share: language, theme, formats, security headers, rendering (S-801, S-802).

What belongs here: the frame. What does not: any one page.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import yaml
from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from monitoring_pipelines import __version__
from monitoring_pipelines.api.access import principal_of
from monitoring_pipelines.api.answers import to_json
from monitoring_pipelines.api.pages import NAVIGATION, PAGES, alert_text
from monitoring_pipelines.api.pages.engine import PageEnvironment
from monitoring_pipelines.api.pages.strings import COMMON
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.config.features import features
from monitoring_pipelines.readable import counted, span
from monitoring_pipelines.said import said
from monitoring_pipelines.state.store import StateUnavailable

log = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
STATIC = HERE.parent / "static"
LANGUAGES = ("zh-CN", "en")
#: Name of the code location in the Dagster UI.
LOCATION = "monitoring_pipelines"
THEMES = ("auto", "light", "dark")
#: What is shown where a value is not known; never 0 (S-802).
UNKNOWN = "–"
#: Nothing from elsewhere, nothing inline.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Strings = Mapping[str, tuple[str, str]]


class View:
    """One page for one reader: his language, zone and theme, and the formats that follow from them.

    Args:
        request: The request.
    """

    def __init__(self, request: Request) -> None:
        services = services_of(request)
        self.request = request
        self.services: Services = services
        self.language = _choice(request, "mp_lang", "lang", LANGUAGES, services.settings.language)
        self.theme = _choice(request, "mp_theme", "theme", THEMES, "auto")
        self.zone = services.settings.timezone
        self.now = services.clock.now()
        self._zone = ZoneInfo(self.zone)
        self._this_year = self.now.replace(tzinfo=UTC).astimezone(self._zone).year
        #: Whether something of the state store is missing on the page.
        self.lacks_state = False

    def stored(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What the state store says; while it cannot be used ``otherwise``, and the page says so (S-802)."""
        try:
            return ask()
        except StateUnavailable as error:
            log.warning("%s without the state store: %s (%s)", self.request.url.path, error.message, error.cause)
            self.lacks_state = True
            return otherwise

    def t(self, key: str, **values: Any) -> str:
        """The text of ``key`` in the reader's language."""
        text = strings_in(self.language)[key]
        return counted(text, values).format(**values) if values else text

    def knows(self, key: str) -> bool:
        """Whether there is a text for ``key``."""
        return key in all_strings()

    def word(self, group: str, value: str | None) -> str:
        """The text of one word of a list, e.g. a state; the word itself when it has no text."""
        if value is None:
            return UNKNOWN
        return self.t(f"{group}.{value}") if self.knows(f"{group}.{value}") else value

    def said(self, text: str | None) -> str:
        """A sentence that is stored in English, in the reader's language; a dash for NULL."""
        return said(text, self.language) if text else UNKNOWN

    def lacks(self, source: str | None, feature: str) -> str | None:
        """Why a source cannot have figures of a feature of E-510, and what to map; None if it can, or none is named (S-802)."""
        if source is None or source not in self.services.source_ids:
            return None
        found = next(one for one in features(self.services.settings.source(source)) if one.name == feature)
        if found.on:
            return None
        return f"{self.t('common.not_applicable')}: {self.said(found.name)} – {self.t('self.needs')} {self.said(found.needs)}"

    def number(self, value: Any, digits: int | None = None, unit: str = "") -> str:
        """A number with separators; a dash for NULL."""
        if value is None:
            return UNKNOWN
        whole = digits is None and value == int(value)
        text = f"{int(value):,}" if whole else f"{value:,.{2 if digits is None else digits}f}"
        return f"{text}{unit}"

    def plain(self, value: Any) -> str:
        """A figure of unknown kind: numbers with separators, instants local, a dash for NULL."""
        if isinstance(value, datetime):
            return self.local(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return UNKNOWN if value is None else str(value)
        return self.number(value)

    def percent(self, value: Any, digits: int = 1) -> str:
        """A percentage; a dash for NULL."""
        return UNKNOWN if value is None else f"{value:.{digits}f}%"

    def duration(self, ms: Any) -> str:
        """Milliseconds in a fitting unit; a dash for NULL."""
        if ms is None:
            return UNKNOWN
        value = float(ms)
        if value < 1000:
            return f"{value:.0f} ms"
        seconds = value / 1000
        if seconds < 120:
            return f"{seconds:.1f} s"
        minutes, rest = divmod(int(seconds), 60)
        if minutes < 120:
            return f"{minutes}:{rest:02d} min"
        return f"{minutes // 60}:{minutes % 60:02d} h"

    def clock(self, seconds: Any) -> str:
        """Seconds as mm:ss or h:mm:ss; a dash for NULL."""
        if seconds is None:
            return UNKNOWN
        minutes, rest = divmod(int(seconds), 60)
        return f"{minutes:02d}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

    def local(self, instant: Any, pattern: str | None = None) -> str:
        """An instant in the configured zone, without the year while it is this one; a dash for NULL."""
        if instant is None:
            return UNKNOWN
        if isinstance(instant, date) and not isinstance(instant, datetime):
            return instant.isoformat()
        return _local(instant, self._zone, pattern, self._this_year)

    def ago(self, instant: datetime | None) -> str:
        """How long ago, in words short enough for a card."""
        if instant is None:
            return UNKNOWN
        seconds = (self.now - instant).total_seconds()
        return self.t("common.just_now") if seconds < 1 else self.t("common.ago", span=self.span(seconds))

    def span(self, seconds: float) -> str:
        """A length of time as people say it: its largest unit, and the next one while that matters."""
        return span(max(seconds, 0), self.language, brief=True)

    def time(self, instant: datetime | None) -> Markup | str:
        """An instant as a ``time`` element, local text with the UTC value behind it."""
        if instant is None:
            return UNKNOWN
        return _time(instant, self._zone, self._this_year)

    def utc(self, instant: datetime) -> str:
        """An instant as the parameters of the API take it."""
        return f"{instant.isoformat()}Z"

    def span_said(self, key: str, start: datetime | None, end: datetime | None) -> str | None:
        """A chosen window in words, by the text ``key``; None without one."""
        if start is None and end is None:
            return None
        return self.t(key, start=self.local(start), end=self.local(end))

    def url(self, path: str, **query: Any) -> str:
        """A link with only the parameters that have a value; ``path`` may have some already."""
        found = {name.rstrip("_"): value for name, value in query.items() if value not in (None, "")}
        return f"{path}{'&' if '?' in path else '?'}{urlencode(found)}" if found else path

    def dagster(self, path: str) -> str | None:
        """A link into the Dagster UI; None when its address is not known."""
        base = self.services.dagster_url
        return None if base is None else f"{base.rstrip('/')}{path}"

    def launchpad(self, job: str, op: str, config: dict[str, Any], tags: dict[str, str] | None = None) -> str | None:
        """A link to the Launchpad of a job with its configuration filled in; None without a Dagster UI."""
        text = yaml.safe_dump({"ops": {op: {"config": config}}}, sort_keys=False, allow_unicode=True)
        query = {"config": text}
        for number, (name, value) in enumerate((tags or {}).items()):
            query |= {f"tags[{number}][key]": name, f"tags[{number}][value]": value}
        return self.dagster(f"/locations/{LOCATION}/jobs/{job}/playground/setup?{urlencode(query)}")

    def may(self, role: str) -> bool:
        """Whether the reader has a role."""
        return role in principal_of(self.request).roles


def _local(instant: datetime, zone: ZoneInfo, pattern: str | None, this_year: int) -> str:
    shown = instant.replace(tzinfo=UTC).astimezone(zone)
    if pattern is None:
        pattern = "%m-%d %H:%M:%S" if shown.year == this_year else "%Y-%m-%d %H:%M:%S"
    return f"{shown:{pattern}}"


@lru_cache(maxsize=4096)
def _time(instant: datetime, zone: ZoneInfo, this_year: int) -> Markup:
    """A page that refreshes itself shows the same instants again."""
    text = instant.isoformat()
    whole = f'<time datetime="{text}Z" title="{text}Z">{_local(instant, zone, None, this_year)}</time>'
    return Markup(whole)  # noqa: S704 - two instants as text have no character that means something in HTML


def _choice(request: Request, cookie: str, parameter: str, known: tuple[str, ...], default: str) -> str:
    for value in (request.query_params.get(parameter), request.cookies.get(cookie)):
        if value in known:
            return str(value)
    return default


@cache
def all_strings() -> dict[str, tuple[str, str]]:
    """Every text of every page: key → (zh-CN, en)."""
    found = dict(COMMON)
    for name in PAGES:
        found |= importlib.import_module(f"monitoring_pipelines.api.pages.{name}").STRINGS
    return found


@cache
def strings_in(language: str) -> dict[str, str]:
    """Every text of every page in one language."""
    place = LANGUAGES.index(language)
    return {key: pair[place] for key, pair in all_strings().items()}


@cache
def _environment() -> PageEnvironment:
    env = PageEnvironment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    env.tests["drawable"] = lambda spec: any(value is not None for line in spec["series"] for value in line["values"])
    env.filters["part"] = lambda text: quote(str(text), safe="")
    env.filters["breaks"] = lambda text: Markup(re.sub(r"[_./-](?=.)", r"\g<0><wbr>", str(escape(text))))  # noqa: S704 - escaped
    env.filters["json"] = lambda value: to_json(value).decode()
    env.filters["pretty"] = lambda value: json.dumps(json.loads(to_json(value)), ensure_ascii=False, indent=2)
    return env


def render(
    request: Request, template: str, *, title: str, as_of: datetime | None = None, refresh: str | None = "default",
    status: int = 200, view: View | None = None, **context: Any,
) -> Response:  # fmt: skip
    """A page.

    Args:
        request: The request.
        template: File below ``templates``.
        title: Heading of the page, already in the reader's language.
        as_of: What the figures are true for.
        refresh: ``tasks``, ``default`` or ``charts`` of ``api.refresh_s``; None: the page does not refresh itself.
        status: HTTP status.
        view: Formats; made when not given.
        context: Names of the template.
    """
    shown = view or View(request)
    periods = shown.services.settings.api.refresh_s
    late = 3 * max(shown.services.settings.extract.interval_s, 60)
    text = _environment().get_template(template).render(
        v=shown, t=shown.t, request=request, title=title, as_of=as_of,
        refresh_s=None if refresh is None else getattr(periods, refresh),
        is_stale=as_of is not None and (shown.now - as_of).total_seconds() > late,
        navigation=NAVIGATION, version=__version__, themes=THEMES, here=_address_of(request),
        has_tokens=request.app.state.gate.has_tokens, alert_text=alert_text, **context,
    )  # fmt: skip
    return HTMLResponse(text, status, dict(HEADERS))


def _address_of(request: Request) -> str:
    """The page's own path, for its links. ``request.url.path`` leaves ``%`` as it is, so that ``a%41`` would lead to ``aA``."""
    return quote(request.scope["path"], safe="/:@!$&'()*+,;=")


#: (label, values, colour variable), and what else ``app.js`` should know of the line: unit, scale.
Line = tuple[str, list[Any], str] | tuple[str, list[Any], str, dict[str, Any]]


def chart(x: list[Any], series: Sequence[Line], zone: str, **more: Any) -> dict[str, Any]:
    """What ``app.js`` draws: seconds, lines, options; NULL values are gaps (S-803)."""
    lines = [{"label": one[0], "values": one[1], "color": one[2]} | (one[3] if len(one) == 4 else {}) for one in series]
    return {"x": [_seconds(at) for at in x], "series": lines, "zone": zone} | more


def spans_of(spans: Sequence[tuple[datetime, datetime]]) -> list[list[int]]:
    """Spans as ``chart`` takes them: seconds of their first and last instant."""
    return [[_seconds(first), _seconds(last)] for first, last in spans]


def _seconds(at: Any) -> Any:
    if isinstance(at, datetime):
        return int(at.replace(tzinfo=UTC).timestamp())
    if isinstance(at, date):
        return int(datetime(at.year, at.month, at.day, tzinfo=UTC).timestamp())
    return at
