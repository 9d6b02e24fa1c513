"""``mp up``: the page and the Dagster webserver and daemon for one configuration, as one supervised command.

What belongs here: which processes belong to a running product and the Dagster home they share. What does not: keeping
them running (``supervise``).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Context, OptionalWhole, Whole
from monitoring_pipelines.cli.supervise import Say, Service, Supervisor, check_port
from monitoring_pipelines.config.schema_services import PAGE_VARIABLE, address
from monitoring_pipelines.errors import ConfigError, ProductError, WarehouseBusy

DEFAULT_PORT = 3000
_CODE_LOCATION = "monitoring_pipelines.definitions"
#: As in ``workspace.yaml``, so that links and commands are the same however Dagster was started.
_LOCATION_NAME = "monitoring_pipelines"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ROUTINE = re.compile(
    r"- dagster[\w.]* - (?:\x1b\[\d+m)?(?:DEBUG|INFO)|BetaWarning|PreviewWarning|\|   return \w+Definition\(|No cursor for event"
    r"|so not trying to catch up"  # a tick finds what is due by itself
)
_print_lock = threading.Lock()
OptionalContext = Annotated[Context | None, Parameter(parse=False)]


def up(
    *,
    host: str = "127.0.0.1",
    port: Whole = DEFAULT_PORT,
    home: Path | None = None,
    page_port: OptionalWhole = None,
    page_host: str | None = None,
    ctx: OptionalContext = None,
) -> int:
    """Start the page, the Dagster webserver and the daemon together; Ctrl-C ends all.

    Args:
        host: Address the Dagster web server listens on. Anyone who can reach it can start runs.
        port: Port of the Dagster web server.
        page_port: Port of the page; default api.port.
        page_host: Address of the page; default api.host. Others than loopback need configured tokens.
        home: Folder of the Dagster instance; default DAGSTER_HOME, else <data>/dagster.
        ctx: Global options.
    """
    file, dagster_home = prepare(None, home)
    check_port(host, port, "the Dagster UI")
    page = page_of(file, page_host, page_port)
    say(f"configuration {file}")
    say(f"Dagster home  {dagster_home}")
    with one_instance(dagster_home):
        return run_services(file, dagster_home, host, port, level_of(ctx), page=page)


def page_of(config: Path, host: str | None = None, port: int | None = None) -> tuple[str, int]:
    """Address and port of the page, checked: the given ones, else the configured ones.

    Raises:
        UsageError: The port is taken. Refused: The address needs tokens.
    """
    from monitoring_pipelines.cli.serve import refuse_open_door
    from monitoring_pipelines.config import load_settings

    settings = load_settings(config)
    chosen = host or settings.api.host, settings.api.port if port is None else port
    refuse_open_door(settings, chosen[0])
    check_port(*chosen, "the page", "--page-port")
    return chosen


def prepare(config: Path | None, home: Path | None) -> tuple[Path, Path]:
    """Check the configuration and make the Dagster home ready.

    Args:
        config: Configuration file; default MP_CONFIG (set by ``--config``), else ./monitoring.yaml.
        home: Dagster home; default DAGSTER_HOME, else <data>/dagster.

    Returns:
        Absolute paths of the configuration file and the Dagster home.

    Raises:
        ConfigError: The configuration is missing or wrong.
        ProductError: The home cannot be created.
    """
    from monitoring_pipelines.config import load_settings

    given = config or os.environ.get("MP_CONFIG") or "monitoring.yaml"
    settings = load_settings(given)
    chosen = home or os.environ.get("DAGSTER_HOME") or settings.data_path / "dagster"
    dagster_home = Path(chosen).expanduser().resolve()
    try:
        dagster_home.mkdir(parents=True, exist_ok=True)
        instance = dagster_home / "dagster.yaml"
        if not instance.exists():
            shutil.copyfile(default_instance_file(), instance)
    except OSError as error:
        raise ProductError(
            f"cannot write the Dagster home {dagster_home}: {error.strerror}",
            hint="choose another folder with --home, or change its owner",
        ) from error
    return Path(given).expanduser().resolve(), dagster_home


def prepare_storage(home: Path) -> None:
    """Create Dagster's storage, or bring it to the installed version, before anything starts on it.

    Daemon, web server and code servers starting together on an empty home would each create the tables, and SQLite
    then ends up with a schema none of them can read. Files of the home are looked at once per version of Dagster; a storage
    named in ``dagster.yaml`` at every start, because what is behind its address may have been exchanged or restored.

    Raises:
        ProductError: Dagster cannot use the home; its own message is the cause.
    """
    stamp = home / ".storage_version"
    version = importlib.metadata.version("dagster")
    own_files = not _names_a_storage(home / "dagster.yaml")
    if own_files and stamp.exists() and stamp.read_text().strip() == version:
        return
    command = [sys.executable, "-m", "dagster", "instance", "migrate"]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if "Error" in line]
        raise ProductError(
            f"Dagster cannot use its home {home}",
            hint="check storage in its dagster.yaml; a home of a newer Dagster needs that version",
            cause=lines[-1] if lines else f"dagster instance migrate ended with code {done.returncode}",
        )
    if own_files:
        stamp.write_text(f"{version}\n")


def _names_a_storage(file: Path) -> bool:
    """Whether ``dagster.yaml`` sets another storage than the files of the home; what cannot be read is Dagster's to say."""
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return True
    return isinstance(found, dict) and any(str(name).endswith("storage") for name in found)


def default_instance_file() -> Path:
    """``dagster.yaml`` as shipped: in the package when installed, at the top of a checkout otherwise."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "defaults" / "dagster.yaml", package.parent / "dagster.yaml"):
        if place.exists():
            return place
    raise ConfigError(None, None, "", "the default dagster.yaml is missing", hint="install the package again")


def level_of(ctx: Context | None) -> str:
    """Least level of what the servers print; runs keep their own complete logs."""
    return "warning" if ctx is None else ctx.log_level


def dagster_services(
    config: Path, home: Path, host: str, port: int, level: str = "warning", page_url: str | None = None
) -> list[Service]:
    """Code server, web server and daemon with the environment they need; nothing of Dagster's is left to defaults.
    ``page_url`` is where links to our page lead.

    One code server for both: each would keep its own otherwise, and the daemon a new one every minute. It gives way, and with it
    the runs, which it starts: a backfill takes what pages and scrapes leave.
    """
    env = {
        **os.environ,
        "MP_CONFIG": str(config),
        "DAGSTER_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        **({PAGE_VARIABLE: page_url} if page_url else {}),
    }
    code_port = _free_port()
    workspace = home / "code_server.yaml"
    workspace.write_text(
        f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code_port}, location_name: {_LOCATION_NAME}}}\n",
        encoding="utf-8",
    )
    python = [sys.executable, "-m"]
    code = [*python, "dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(code_port), "-m", _CODE_LOCATION]
    code += ["--location-name", _LOCATION_NAME, "--use-python-environment-entry-point", "--log-level", level]
    web = [*python, "dagster_webserver", "-h", host, "-p", str(port), "-w", str(workspace)]
    web += ["--uvicorn-log-level", level, "--dagster-log-level", level]
    daemon = [*python, "dagster._daemon", "run", "-w", str(workspace), "--log-level", level]
    return [
        Service("code", code, env, ready=lambda: _listens(code_port), gives_way=True),
        Service("webserver", web, env),
        Service("daemon", daemon, env),
    ]


def page_service(
    config: Path, home: Path, address: tuple[str, int], dagster_url: str, level: str, page_url: str | None = None
) -> Service:
    """The page as one more supervised process."""
    from monitoring_pipelines.cli.logfiles import SUPERVISED

    host, port = address
    code = "import sys; from monitoring_pipelines.cli.app import run; sys.exit(run(sys.argv[1:]))"
    options = ["--log-level", level, "serve", "--host", host, "--port", str(port), "--dagster-url", dagster_url]
    env = {**os.environ, "MP_CONFIG": str(config), "DAGSTER_HOME": str(home), "PYTHONUNBUFFERED": "1", SUPERVISED: "1"}
    env |= {PAGE_VARIABLE: page_url} if page_url else {}
    return Service("page", [sys.executable, "-c", code, *options], env)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def run_services(
    config: Path, home: Path, host: str, port: int, level: str, *,
    page: tuple[str, int] | None = None, entry: str = "", on_stop: Callable[[], None] | None = None,
    pages: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Keep page, web server and daemon running until a signal; say when they answer.

    Args:
        config: Configuration file.
        home: Dagster home.
        host: Address of the web server.
        port: Port of the web server.
        level: Least level of log lines to show.
        page: Address and port of the page; None: without it.
        entry: Path of the page to begin with.
        on_stop: Called at the beginning of the shutdown.
        pages: What can be seen where: paths of pages worth a look, by what they show.
    """
    from monitoring_pipelines.cli.logfiles import LogFiles
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.quality.files import prepare_at_start

    prepare_storage(home)
    url = address(host, port)
    shown = say if level in ("debug", "info") else _say_unless_routine
    settings = load_settings(config)
    prepare_at_start(settings)
    files = LogFiles(settings.logs_path)

    ending = threading.Event()

    def told(line: str) -> None:
        files.write(line)
        # What is interrupted says so at length.
        if not ending.is_set():
            shown(line)

    def begin_to_end() -> None:
        ending.set()
        say("Ending; a run that is under way is broken off")
        if on_stop is not None:
            on_stop()

    page_url = address(*page) if page is not None else None
    services = dagster_services(config, home, host, port, level, page_url)
    if page is not None:
        services.insert(0, page_service(config, home, page, url, level, page_url))
    supervisor = Supervisor(services, told, begin_to_end)

    def ready() -> bool:
        return _answers(f"{url}/server_info") and (page_url is None or _answers(f"{page_url}/health/live"))

    def announce() -> None:
        if page_url is not None:
            say(f"Page ready: {page_url}{entry}")
            files.write(f"page ready: {page_url}")
        say(f"Dagster UI ready: {url}   (Ctrl-C ends everything)")
        files.write(f"daemon    | Dagster UI ready: {url}")
        for what, path in (pages or {}).items():
            say(f"  {what:<22} {url}{path}")

    try:
        code = supervisor.run(ready=ready, announce=announce)
        files.write("all processes have ended")
    finally:
        files.close()
    say("all processes have ended")
    return code


def _say_unless_routine(line: str) -> None:
    """Leave out what runs tell about their normal progress; Dagster keeps it in the log of each run."""
    if not _ROUTINE.search(line):
        say(line)


@contextlib.contextmanager
def one_instance(home: Path) -> Iterator[None]:
    """Hold the right to run schedules of this Dagster home; two daemons on one home would start every run twice.

    Raises:
        WarehouseBusy: Another ``mp up`` holds it.
    """
    import fcntl

    with (home / "up.lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip()
            raise WarehouseBusy(
                f"another `mp up` already runs on {home}" + (f" (process {holder})" if holder else ""),
                hint="end it first, or choose another folder with --home",
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def say(line: str) -> None:
    """One line to the terminal; whole lines even when several services talk at once, colours only on a terminal."""
    if not sys.stdout.isatty():
        line = _COLOUR.sub("", line)
    with _print_lock:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy never knows this address
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


__all__ = [
    "Say", "dagster_services", "one_instance", "page_of", "prepare", "prepare_storage", "run_services", "say", "up",
]  # fmt: skip
