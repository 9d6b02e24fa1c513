"""``mp serve``: the page, the JSON API and ``/metrics`` of one configuration.

What belongs here: address, refusal of an open door, the server's settings. What does not: the application (``api``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.cli.context import Ctx, OptionalWhole
from monitoring_pipelines.cli.supervise import check_port
from monitoring_pipelines.errors import Refused

if TYPE_CHECKING:
    import uvicorn

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Seconds that open requests get when the server is told to end.
_GRACE_S = 5
#: Files a server may have open at once if the system allows it; of each published file of tasks it keeps four.
_FILES = 4096


def serve(*, host: str | None = None, port: OptionalWhole = None, dagster_url: str | None = None, ctx: Ctx) -> int:
    """Serve the page, the JSON API and /metrics until Ctrl-C.

    Args:
        host: Address to listen on; default api.host. Others than loopback need configured tokens.
        port: Port to listen on; default api.port.
        dagster_url: Address of the Dagster web server, for links and for runs started from the page.
        ctx: Global options.
    """
    from monitoring_pipelines.cli.logfiles import add_service_log
    from monitoring_pipelines.lean import give_memory_back
    from monitoring_pipelines.quality.files import prepare_at_start

    give_memory_back()
    allow_files()
    settings = ctx.settings
    chosen_host, chosen_port = host or settings.api.host, port if port is not None else settings.api.port
    refuse_open_door(settings, chosen_host)
    check_port(chosen_host, chosen_port, "the page")
    add_service_log(settings.logs_path)
    prepare_at_start(settings)
    server = make_server(settings, ctx.clock, chosen_host, chosen_port, dagster_url, ctx.log_level)
    server.run()
    return 0


def allow_files() -> None:
    """Let this process and those it starts open ``_FILES`` files, or as many as the system allows without asking."""
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def refuse_open_door(settings: Settings, host: str) -> None:
    """Refuse to listen beyond this machine without tokens (S-001).

    Raises:
        Refused: ``host`` is not a loopback address and no token is configured.
    """
    if host not in LOOPBACK and not settings.api.tokens:
        raise Refused(
            f"{host} can be reached from other machines and no token is configured",
            "configure api.tokens, or listen on 127.0.0.1",
        )


def make_server(
    settings: Settings, clock: Clock, host: str, port: int, dagster_url: str | None = None, log_level: str = "warning"
) -> uvicorn.Server:
    """The server, not yet running."""
    import uvicorn

    from monitoring_pipelines.api.app import build_app

    return uvicorn.Server(
        uvicorn.Config(
            build_app(settings, clock, dagster_url),
            host=host,
            port=port,
            log_config=None,
            log_level=log_level,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
