"""Asking a result API by the task's remote id; with the preset ``runninghub`` (R-310, R-501, R-502).

What belongs here: the request, the table of answers, probing of links. What does not: retries and rate (``asking``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from monitoring_pipelines.compensation.model import Recovered, Task
from monitoring_pipelines.compensation.recoverers.base import (
    Answer,
    AuthError,
    Context,
    NoOutput,
    NotFound,
    NotReady,
    Outputs,
    RemoteFailed,
    Transient,
)
from monitoring_pipelines.compensation.recoverers.documents import entry_output, walk
from monitoring_pipelines.errors import ConfigError

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_services import RecovererSettings

#: Longest accepted answer, bytes; a longer one is not read to its end.
MAX_BODY = 4 * 1024 * 1024
_MAX_REDIRECTS = 3
_REASON_CHARS = 300
#: Request, places in the answer and meaning of its codes (R-501). Codes that are not listed are transient.
PRESETS: dict[str, dict[str, Any]] = {
    "runninghub": {
        "request": {
            "method": "POST", "path": "/task/openapi/outputs",
            "json": {"apiKey": "{api_key}", "taskId": "{remote_id}"},
        },
        "code": "code", "path": "data", "reason": "data.failedReason",
        "fields": {"uri": "fileUrl", "type": "fileType", "node": "nodeId", "size": "fileSize"},
        "evidence": ("taskCostTime", "consumeCoins"),
        "codes": {
            "0": "outputs", "804": "remote_not_ready", "813": "remote_not_ready", "805": "remote_failed",
            "807": "remote_not_found", "801": "auth_error", "802": "auth_error", "806": "auth_error",
        },
        "statuses": {"804": "RUNNING", "813": "QUEUED", "805": "FAILED"},
    },
}  # fmt: skip
_CODE_CLASSES = ("outputs", "remote_not_ready", "remote_failed", "remote_not_found", "auth_error", "remote_no_output")
#: Answers to a probe that say the file is gone; 403 is what an expired signature gives.
_DEAD = (403, 404, 410)


class HttpResult:
    """A result API reached over HTTP(S)."""

    needs_remote_id = True

    def __init__(self, item: RecovererSettings, ctx: Context) -> None:
        import urllib3

        base, key = ctx.settings.secret, f"repair.recoverers.{item.id}"
        url = base(item.base_url_env, None, f"{key}.base_url_env") or item.base_url
        if not url:
            raise ConfigError(
                None, None, f"{key}.base_url_env", "an http_result recoverer needs base_url_env or base_url"
            )
        self._base = url.rstrip("/")
        parts = urlsplit(self._base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(None, None, f"{key}.base_url_env", "the variable does not hold an http(s) URL")
        if parts.scheme == "http" and not item.allow_http:
            raise ConfigError(
                None, None, f"{key}.base_url_env", "the result API is not https", "use https, or set allow_http: true"
            )
        preset = PRESETS.get(item.preset or "", {})
        self._key = base(item.api_key_env, item.api_key_file, f"{key}.api_key_env") or ""
        self._request = {**preset.get("request", {}), **item.request}
        self._codes = {**preset.get("codes", {"0": "outputs"}), **item.codes}
        wrong = sorted(set(self._codes.values()) - {*_CODE_CLASSES, "transient_error"})
        if wrong:
            raise ConfigError(None, None, f"{key}.codes", f"unknown class {', '.join(wrong)}", ", ".join(_CODE_CLASSES))
        self._statuses = preset.get("statuses", {})
        self._code_path = str(self._request.get("code", preset.get("code", "code")))
        self._list_path = item.path or preset.get("path", "data")
        self._reason_path = preset.get("reason")
        self._fields = {**preset.get("fields", {}), **item.fields}
        self._evidence = preset.get("evidence", ())
        self._hosts = {host.lower() for host in item.allowed_hosts}
        self._probe, self._allow_http = item.probe_links, item.allow_http
        repair = ctx.settings.repair
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=repair.connect_timeout_s, read=repair.read_timeout_s), retries=False,
            maxsize=2,
        )  # fmt: skip
        ctx.stack.callback(self._pool.clear)

    def recover(self, task: Task, ctx: Context) -> Answer:
        """One call, and one probe per link if configured."""
        ctx.count_call()
        status, headers, body = self._call(self._filled(task))
        if status in (401, 403):
            return AuthError(f"HTTP {status}", str(status))
        if status != 200:
            return Transient(self._trouble(status, headers), str(status or ""), _retry_after(headers))
        try:
            document = json.loads(body)
        except ValueError:
            return Transient("the answer is not JSON")
        answer = self._meaning(document)
        if isinstance(answer, Outputs) and self._probe:
            return self._probed(answer, ctx)
        return answer

    def _filled(self, task: Task) -> dict[str, Any]:
        names = {"api_key": self._key, "remote_id": task.remote_id or "", "task_key": task.task_key}

        def fill(value: Any) -> Any:
            if isinstance(value, str):
                for name, text in names.items():
                    value = value.replace("{" + name + "}", text)
                return value
            if isinstance(value, dict):
                return {name: fill(inner) for name, inner in value.items()}
            return [fill(inner) for inner in value] if isinstance(value, list) else value

        return {name: fill(value) for name, value in self._request.items()}

    def _call(self, request: dict[str, Any]) -> tuple[int | None, dict[str, str], bytes]:
        """(HTTP status or None, headers, body). Redirects are followed on the same host only (R-310)."""
        url = self._base + str(request.get("path", ""))
        headers = {"Content-Type": "application/json", **request.get("headers", {})}
        body = json.dumps(request["json"]).encode() if "json" in request else None
        return self._exchange(str(request.get("method", "GET")), url, headers, body)

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int | None, dict[str, str], bytes]:
        import urllib3

        for _ in range(_MAX_REDIRECTS + 1):
            try:
                response = self._pool.request(
                    method, url, headers=headers, body=body, redirect=False, preload_content=False
                )
                try:
                    content = response.read(MAX_BODY + 1, decode_content=True)
                    response.drain_conn() if len(content) <= MAX_BODY else response.close()
                finally:
                    response.release_conn()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                return None, {"error": type(error).__name__}, b""
            found = {name.lower(): value for name, value in response.headers.items()}
            if response.status not in (301, 302, 303, 307, 308) or (method == "POST" and response.status < 307):
                return response.status, found, content
            target = urljoin(url, found.get("location", ""))
            if urlsplit(target).netloc.lower() != urlsplit(url).netloc.lower():
                return None, {"error": "redirect to another host refused"}, b""
            url = target
        return None, {"error": "too many redirects"}, b""

    @staticmethod
    def _trouble(status: int | None, headers: dict[str, str]) -> str:
        return headers.get("error", "no answer") if status is None else f"HTTP {status}"

    def _meaning(self, document: Any) -> Answer:
        """The answer by its code (R-501)."""
        code = walk(document, self._code_path)
        word = self._codes.get(str(code))
        text = None if code is None else str(code)
        if isinstance(code, bool) or word is None or word == "transient_error":
            return Transient(f"unknown code {text}", text)
        if word == "outputs":
            return self._outputs(document, text)
        if word == "auth_error":
            return AuthError(f"code {text}", text)
        if word == "remote_not_ready":
            return NotReady(text, self._statuses.get(text))
        if word == "remote_failed":
            return RemoteFailed(self._failed_reason(document), text)
        return NotFound(text) if word == "remote_not_found" else NoOutput(None, text)

    def _outputs(self, document: Any, code: str | None) -> Answer:
        found = walk(document, self._list_path)
        if found is None:
            return NotReady(code, "no data")
        if not isinstance(found, list):
            return Transient("the answer has no list of outputs", code)
        outputs: list[Recovered] = []
        for entry in found:
            facts = {n: entry[n] for n in self._evidence if isinstance(entry, dict) and entry.get(n) is not None}
            output = entry_output(entry, self._fields, {"code": code, **facts})
            if output is None:
                return Transient("an entry of the answer has no link", code)
            outputs.append(output)
        if not outputs:
            return NoOutput(None, code)
        return Outputs(tuple(outputs), code)

    def _failed_reason(self, document: Any) -> str | None:
        """What the remote says; a structured reason loses its traceback (R-501)."""
        reason = walk(document, self._reason_path) if self._reason_path else None
        if isinstance(reason, dict):
            kept = {name: value for name, value in reason.items() if "traceback" not in name.lower()}
            reason = json.dumps(kept, ensure_ascii=False, sort_keys=True)
        return None if reason is None else str(reason)[:_REASON_CHARS]

    def _probed(self, answer: Outputs, ctx: Context) -> Answer:
        """The outputs if every link is alive (R-502)."""
        checked = []
        for output in answer.outputs:
            verdict = self._alive(output.uri, ctx)
            if isinstance(verdict, Transient):
                return verdict
            if verdict == "dead":
                return NoOutput("link_expired", answer.code)
            checked.append(
                Recovered(output.uri, output.media_type, output.node_key, output.size_bytes,
                          {**output.evidence, "link": verdict})
            )  # fmt: skip
        return Outputs(tuple(checked), answer.code)

    def _alive(self, uri: str, ctx: Context) -> str | Transient:
        parts = urlsplit(uri)
        if (parts.scheme == "http" and not self._allow_http) or parts.scheme not in ("http", "https"):
            return "not probed: not https"
        if self._hosts and (parts.hostname or "").lower() not in self._hosts:
            return "not probed: host is not in allowed_hosts"
        # A signature is often good for GET only: HEAD proves that a link works, never that it does not.
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            ctx.count_call()
            status, found, _ = self._exchange(method, uri, headers)
            if status in (200, 206, 416):
                return "alive"
        if status in _DEAD:
            return "dead"
        return Transient(f"probing a link: {self._trouble(status, found)}", str(status or ""))


def _retry_after(headers: dict[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isdigit() else None
