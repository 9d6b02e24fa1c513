"""Errors a user can act on: what happened, why, what to do, and the exit code of the command line.

What belongs here: the exception hierarchy of the product, without imports.
What does not: rendering (``cli.output``) and the handling of failures inside a cycle (``source.tail``).
"""

# The names say what is the case; "Error" would add nothing.

from __future__ import annotations


class ProductError(Exception):
    """Something the user or operator can understand and fix; shown without a stack trace.

    Args:
        message: What happened, in one line.
        hint: What to do about it.
        cause: Why it happened, when that is more than ``message`` says.
    """

    #: Process exit code of the command line (surfaces §7).
    exit_code = 1
    #: Stable word for ``--json`` output and logs.
    code = "error"

    def __init__(self, message: str, hint: str | None = None, *, cause: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.cause = cause

    def as_dict(self) -> dict[str, object]:
        """The error as a JSON object: code, message, cause, hint."""
        return {"code": self.code, "message": self.message, "cause": self.cause, "hint": self.hint}


class UsageError(ProductError):
    """A command was called with values that make no sense."""

    exit_code = 2
    code = "usage"


class ConfigError(ProductError):
    """A configuration problem with its place (E-501).

    Args:
        file: Configuration file as the user named it; None when no file exists.
        line: 1-based line, None when the problem has no line.
        path: Where in the document, e.g. ``sources[0].tables.task.columns.status``.
        message: What is wrong there.
        hint: What to do about it.
        problems: Every problem found, this one included; one run shows them all.
    """

    exit_code = 2
    code = "config"

    def __init__(
        self,
        file: str | None,
        line: int | None,
        path: str,
        message: str,
        hint: str | None = None,
        *,
        problems: tuple[ConfigError, ...] = (),
        cause: str | None = None,
    ) -> None:
        self.file = file
        self.line = line
        self.path = path
        self.detail = message
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, path, message) if part), hint, cause=cause)
        self.problems: tuple[ConfigError, ...] = problems or (self,)

    def as_dict(self) -> dict[str, object]:
        """The error as a JSON object, with one entry per problem found."""
        return super().as_dict() | {
            "problems": [
                {"file": p.file, "line": p.line, "path": p.path, "message": p.detail, "hint": p.hint}
                for p in self.problems
            ]
        }


class SourceUnavailable(ProductError):
    """A source cannot be reached, refuses the login, or dropped the connection (E-613)."""

    exit_code = 3
    code = "source_unavailable"


class SchemaDrift(ProductError):
    """A mapped table or column that existed is gone or became incompatible (E-702)."""

    exit_code = 1
    code = "schema_drift"


class WarehouseBusy(ProductError):
    """Another process holds the writer lock for longer than the caller wanted to wait."""

    exit_code = 4
    code = "locked"


class Refused(ProductError):
    """The product declines for safety: missing approval, surplus grants, a guard that does not hold."""

    exit_code = 5
    code = "refused"


class Paused(ProductError):
    """Work stopped at a limit and can be resumed."""

    exit_code = 6
    code = "paused"
