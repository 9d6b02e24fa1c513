"""Channels over HTTP: DingTalk, webhook, and whatever Apprise speaks (A-401, A-402).

What belongs here: signatures, bodies and what counts as success. What does not: the POST itself (``http``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from monitoring_pipelines.alerts import bodies, wording
from monitoring_pipelines.alerts.channels import Result
from monitoring_pipelines.alerts.channels.http import Answer, post_json, result_of, where

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.messages import Message
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema_alerts import ChannelSettings

#: Limit of DingTalk for the whole body, bytes.
MOST_BYTES = 20_000


def _address(settings: Settings, given: ChannelSettings) -> str:
    url = settings.secret(given.webhook_env, given.webhook_file, f"channels[{given.id}].webhook")
    if url is None:
        raise AssertionError("the schema demands an address")
    return url.strip()


class DingTalk:
    """A DingTalk robot. Sent only if it answers 200 and ``errcode`` 0 (A-401)."""

    def __init__(self, settings: Settings, given: ChannelSettings) -> None:
        self.language, self._timeout = given.language, given.timeout_s
        self._url = _address(settings, given)
        self._secret = settings.secret(given.secret_env, given.secret_file, f"channels[{given.id}].secret")

    def send(self, message: Message, clock: Clock) -> Result:
        """Post with a fresh timestamp."""
        url = self._url
        if self._secret:
            stamp = str(int(clock.now().replace(tzinfo=UTC).timestamp() * 1000))
            joint = "&" if "?" in url else "?"
            url = f"{url}{joint}timestamp={stamp}&sign={quote_plus(signature(self._secret, stamp))}"
        answer = post_json(url, markdown_body(message), self._timeout)
        code, text = _errcode(answer)
        ok = answer.status == 200 and answer.error is None and code == "0"
        error = None
        if not ok and answer.status == 200 and answer.error is None:
            error = f"{where(url)} answered errcode {code}: {text}" if code else f"{where(url)} gave no errcode"
        return result_of(answer, url, ok, code, error)


def signature(secret: str, timestamp: str) -> str:
    """Base64 of HMAC-SHA256 over timestamp, line feed, secret, with the secret as key (A-401)."""
    mac = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def markdown_body(message: Message) -> bytes:
    """The JSON body, at most ``MOST_BYTES``: the longest beginning of the text that fits, cut at a character border."""
    title, mark = wording.cut(message.title, 200, "…"), wording.cut_mark(message.language)

    def body(limit: int) -> bytes:
        text = wording.cut(message.markdown, limit, mark)
        content = {"msgtype": "markdown", "markdown": {"title": title, "text": text}}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

    whole = body(len(message.markdown.encode()))
    if len(whole) <= MOST_BYTES:
        return whole
    fits, too_long = 0, MOST_BYTES  # escapes make the body longer than its text, by how much depends on the text
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if len(body(middle)) <= MOST_BYTES else (fits, middle)
    return body(fits)


def _errcode(answer: Answer) -> tuple[str | None, str]:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return None, ""
    if not isinstance(content, dict) or "errcode" not in content:
        return None, ""
    return str(content["errcode"]), str(content.get("errmsg", ""))[:200]


class Webhook:
    """A JSON POST of the message; success is any 2xx."""

    def __init__(self, settings: Settings, given: ChannelSettings) -> None:
        self.language, self._given = given.language, given
        self._url = _address(settings, given)

    def send(self, message: Message, clock: Clock) -> Result:
        """Post our own body, or one like Alertmanager's."""
        given = self._given
        body = bodies.alertmanager_webhook(message, given.id) if given.alertmanager else bodies.own_json(message)
        answer = post_json(self._url, body, given.timeout_s)
        ok = answer.error is None and answer.status is not None and 200 <= answer.status < 300
        return result_of(answer, self._url, ok, str(answer.status) if answer.status else None)


class AppriseChannel:
    """Any service Apprise knows; the address is an Apprise URL."""

    def __init__(self, settings: Settings, given: ChannelSettings) -> None:
        self.language = given.language
        self._url = _address(settings, given)

    def send(self, message: Message, clock: Clock) -> Result:
        """Hand the message to Apprise, which only says whether it worked."""
        import apprise

        target = f"{self._url.split('://', 1)[0]}://…"
        sender = apprise.Apprise()
        if not sender.add(self._url):
            return Result(False, error="Apprise does not understand the address", target=target)
        kinds = {"resolved": apprise.NotifyType.SUCCESS, "test": apprise.NotifyType.INFO}
        kind = kinds.get(message.kind, apprise.NotifyType.WARNING)
        ok = bool(sender.notify(body=message.markdown, title=message.title, notify_type=kind,
                                body_format=apprise.NotifyFormat.MARKDOWN))  # fmt: skip
        return Result(ok, error=None if ok else "the service did not accept the message", target=target)
