"""The application: commands by name, global options, exit codes.

What belongs here: the table of commands and the way from arguments to an exit code. What does not: command bodies.
Commands are registered by import path; their modules load when they run.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import UnknownCommandError

from monitoring_pipelines import __version__
from monitoring_pipelines.errors import ProductError, UsageError

_SETUP = Group("Setting up", sort_key=1)
_DATA = Group("Data and statistics", sort_key=2)
_CHECKS = Group("Checks", sort_key=3)
_RUN = Group("Running", sort_key=4)
_GLOBAL = Group("Global options", sort_key=9)

#: Command, "module:function", group, help.
COMMANDS: tuple[tuple[str, str, Group, str], ...] = (
    ("init", "setup:init", _SETUP, "Read a live schema and write a commented configuration."),
    ("validate", "setup:validate", _SETUP, "Check the configuration against the sources: SQL, samples, indexes."),
    ("doctor", "setup:doctor", _SETUP, "Check the environment: versions, paths, connections, privileges, clocks."),
    ("ddl", "setup:ddl", _SETUP, "Print tables for data a team keeps only in memory."),
    ("extract", "extraction:extract", _DATA, "Read new and changed rows of the sources."),
    ("reconcile", "extraction:reconcile", _DATA, "Compare days with the source and repair what differs."),
    ("aggregate", "statistics:aggregate", _DATA, "Compute the statistics that are due."),
    ("rebuild", "statistics:rebuild", _DATA, "Compute the statistics of a range again from stored rows."),
    ("stats", "statistics:stats", _DATA, "Show the statistics of an endpoint, job, process or channel."),
    ("check", "checks:check", _CHECKS, "Check completeness and consistency now: quick, full or deep."),
    (
        "check-integrity",
        "checks:check_integrity",
        _CHECKS,
        "Report on days: before/after a date, change point, missing.",
    ),
    ("thresholds", "checks:thresholds", _CHECKS, "Show or change the task thresholds."),
    ("rules", "rules:rules", _CHECKS, "Replay a rule over stored statistics: rules backtest RULE --days 30."),
    ("sweep", "checks:sweep", _CHECKS, "Let derived timeouts take effect and show what is over its limit."),
    ("prune-logs", "checks:prune_logs", _CHECKS, "Remove old result, alert and error files."),
    ("targets", "targets:targets", _RUN, "Show what is expected to go on, or retire it."),
    ("prometheus-rules", "targets:prometheus_rules", _RUN, "Write the rule file for a Prometheus server."),
    ("tasks", "lists:tasks", _DATA, "List tasks, or show one with everything that happened to it."),
    ("jobs", "lists:jobs", _DATA, "List scheduled jobs with their figures, or the runs of one."),
    ("export", "export:export", _DATA, "Write metrics, a published table or the life-cycle state."),
    ("import", "export:import_", _DATA, "Read in an exported life-cycle state."),
    ("docs", "docs:app", _CHECKS, "Web pages of the expectation suites over the last hours."),
    ("completion", "completion:completion", _SETUP, "Print the completion script of a shell."),
    ("status", "status:status", _RUN, "Show how fresh everything is and what is wrong."),
    ("alerts", "alerts:app", _RUN, "Alerts: list, show, acknowledge, silence, history."),
    ("test-alert", "alert_trials:send_test", _RUN, "Send a test message, or run an alert's life cycle as an exercise."),
    ("route", "alert_trials:route", _RUN, "Show who would hear of an alert, and why."),
    ("repair", "repair:app", _RUN, "Repair lost outputs: plan, approve, apply, verify, roll back."),
    ("compensate", "compensate:compensate", _RUN, "Plan a repair and, after you said yes, apply it."),
    ("demo", "demo:demo", _RUN, "Build or run a simulated platform with seeded faults."),
    ("serve", "serve:serve", _RUN, "Serve the page, the JSON API and /metrics."),
    ("load-test", "load_test:load_test", _RUN, "Read a running page with many clients and judge it by the limits."),
    ("up", "up:up", _RUN, "Run the page and Dagster as one supervised command."),
)

app = App(
    name="mp",
    help="Statistics, checks, alerts and repair for task platforms whose state lives in MySQL.",
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
)
app.meta.group_parameters = _GLOBAL
for _name, _target, _group, _help in COMMANDS:
    app.command(f"monitoring_pipelines.cli.{_target}", name=_name, group=_group, help=_help)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[str | None, Parameter(env_var="MP_CONFIG")] = None,
    now: Annotated[str | None, Parameter(env_var="MP_NOW")] = None,
    source: Annotated[list[str] | None, Parameter(negative="")] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    log_level: Literal["debug", "info", "warning", "error"] | None = None,
) -> int:
    """Read the global options and run the command.

    Args:
        tokens: The command and its own options.
        config: Configuration file (default: monitoring.yaml).
        now: Fix the clock to this RFC 3339 time.
        source: Only this source; may be repeated.
        json: Write JSON.
        log_level: Least level of log lines (default: LOG_LEVEL, else warning).
    """
    from monitoring_pipelines.cli.context import Context
    from monitoring_pipelines.cli.output import set_up_logging

    level = log_level or _level_of_environment()
    set_up_logging(level)
    if now:
        from monitoring_pipelines.clock import parse_instant

        parse_instant(now)
        os.environ["MP_NOW"] = now  # for everything this process starts
    if config:
        os.environ["MP_CONFIG"] = config
    context = Context(config, now, source or [], json, level)
    command, bound, ignored = app.parse_args(tokens, exit_on_error=False, print_error=False)
    extra: dict[str, Any] = {name: context for name, annotation in ignored.items() if annotation is Context}
    extra |= {n: context for n in ignored if n == "ctx"}
    result = command(*bound.args, **bound.kwargs, **extra)
    if inspect.isawaitable(result):
        raise TypeError(f"{command} is asynchronous")
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _level_of_environment() -> str:
    """LOG_LEVEL in any case (S-502); UsageError for a word that is no level."""
    level = os.environ.get("LOG_LEVEL", "").lower() or "warning"
    if level not in ("debug", "info", "warning", "error"):
        raise UsageError(f"LOG_LEVEL is {level!r}", "debug, info, warning or error")
    return level


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0 ok; 1 findings; 2 usage or configuration; 3 source unreachable; 4 locked; 5 refused; 6 paused.
    """
    as_json = "--json" in arguments
    before = {name: os.environ.get(name) for name in ("MP_CONFIG", "MP_NOW")}
    try:
        result = app.meta(list(arguments), exit_on_error=False, print_error=False)
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        return _fail(_usage(error), as_json)
    except ProductError as error:
        return _fail(error, as_json)
    except OverflowError as error:  # numbers of options have no bounds, times and stored numbers have
        wrong = UsageError("a number or time is beyond what can be computed", "give a smaller one", cause=str(error))
        return _fail(wrong, as_json)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the last line of defence; a bug must not look like a user's error
        if "debug" in arguments:
            raise
        hint = "this is a fault of the product; --log-level debug shows where"
        return _fail(ProductError("internal error", hint, cause=f"{type(error).__name__}: {error}"), as_json)
    finally:
        for name, value in before.items():  # a caller in the same process keeps its own settings
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _fail(error: ProductError, as_json: bool) -> int:
    from monitoring_pipelines.cli.output import write_error

    write_error(error, as_json)
    return error.exit_code


def _usage(error: CycloptsError) -> UsageError:
    if isinstance(error, UnknownCommandError):  # its own text would import every command to find similar names
        from monitoring_pipelines.config.suggest import did_you_mean

        names = [name for name, *_ in COMMANDS]
        word = next(iter(error.unused_tokens or []), "")
        return UsageError(f"unknown command {word!r}{did_you_mean(word, names)}")
    return UsageError(" ".join(str(error).split()) or "the command line cannot be understood")
