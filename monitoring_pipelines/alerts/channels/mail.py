"""E-mail over SMTP.

What belongs here: one mail per message. What does not: wording.
"""

from __future__ import annotations

import smtplib
import ssl
from datetime import UTC
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.alerts.channels import Result

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.messages import Message
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema_alerts import ChannelSettings

_PRIORITY = {"critical": "1 (Highest)", "high": "2 (High)"}


class Email:
    """Mail to a list of people. Sent only if the server takes it for all of them."""

    def __init__(self, settings: Settings, given: ChannelSettings) -> None:
        self.language, self._given = given.language, given
        path = f"channels[{given.id}]"
        self._user = settings.secret(given.username_env, None, f"{path}.username")
        self._password = settings.secret(given.password_env, given.password_file, f"{path}.password")
        self._ca = settings.secret(None, given.smtp_ca_file, f"{path}.smtp_ca_file")

    def send(self, message: Message, clock: Clock) -> Result:
        """Connect, log in, send, leave."""
        given = self._given
        target = f"smtp://{given.smtp_host}:{given.smtp_port}"
        try:
            with self._connect() as server:
                if given.smtp_tls == "starttls":
                    server.starttls(context=self._tls())
                if self._user and self._password:
                    server.login(self._user, self._password)
                refused = server.send_message(self._mail(message, clock))
        except smtplib.SMTPResponseException as error:
            what = " refuses the login" if isinstance(error, smtplib.SMTPAuthenticationError) else ""
            text = f"{target}{what}: {_text(error.smtp_error)}"
            return Result(False, provider_code=str(error.smtp_code), error=text, target=target)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            return Result(False, provider_code=str(code), error=f"{target} refuses the recipients", target=target)
        except (smtplib.SMTPException, OSError) as error:
            return Result(False, error=f"{target}: {_reason(error)}", target=target)
        if refused:
            return Result(
                False, provider_code="partial", error=f"{target} refuses {len(refused)} recipients", target=target
            )
        return Result(True, provider_code="250", target=target)

    def _connect(self) -> smtplib.SMTP:
        given = self._given
        host, port, timeout = given.smtp_host or "", given.smtp_port, given.timeout_s
        if given.smtp_tls == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=timeout, context=self._tls())
        return smtplib.SMTP(host, port, timeout=timeout)

    def _tls(self) -> ssl.SSLContext:
        """Checks the certificate and its name: against ``smtp_ca_file`` if given, else the system's authorities."""
        return ssl.create_default_context(cadata=self._ca)

    def _mail(self, message: Message, clock: Clock) -> EmailMessage:
        given = self._given
        mail = EmailMessage()
        mail["Subject"] = " ".join(message.title.split())
        mail["From"] = given.sender or ""
        mail["To"] = ", ".join(given.recipients)
        mail["Date"] = format_datetime(clock.now().replace(tzinfo=UTC))
        # The same message sent twice after a crash shows once in programs that compare ids.
        mail["Message-ID"] = f"<{message.notification_id}@monitoring-pipelines.invalid>"
        mail["Auto-Submitted"] = "auto-generated"
        if message.severity in _PRIORITY:
            mail["X-Priority"] = _PRIORITY[message.severity]
        mail.set_content(message.text)
        return mail


def _reason(error: Exception) -> str:
    """Why a conversation with the server failed, for somebody who can change the configuration."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message} (smtp_ca_file names one's own authority)"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS on this port (smtp_tls: starttls, tls or none)"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return str(error)
    return getattr(error, "strerror", None) or type(error).__name__


def _text(raw: bytes | str) -> str:
    return (raw.decode(errors="replace") if isinstance(raw, bytes) else raw)[:200]
