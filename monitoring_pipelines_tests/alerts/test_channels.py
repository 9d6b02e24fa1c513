"""Channels against real servers on this machine that work, fail, hang, or lie (A-401, A-402, A-403, checks §10)."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.alerts import testing
from monitoring_pipelines.alerts.channels import build_channel
from monitoring_pipelines.alerts.channels.web import MOST_BYTES, markdown_body, signature
from monitoring_pipelines.alerts.messages import Message
from monitoring_pipelines.alerts.wording import cut
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines_tests.alerts.conftest import T0
from monitoring_pipelines_tests.support.receiver import Receiver

SECRET, STAMP = "SECexample0815", "1767225600000"


def message(text: str = "text", title: str = "[FIRING] a (b)", **more) -> Message:
    values = {"notification_id": "01KGBWJRR0TMHBESDBEZC7WHFB", "kind": "firing", "title": title, "text": text,
              "markdown": text, "severity": "critical", "language": "zh-CN", "group_key": "critical/a/b",
              "created_at": T0, "dashboard": "http://127.0.0.1:8787"}  # fmt: skip
    return Message(**(values | more))


def test_signature_is_the_worked_example(world):
    """A-402."""
    assert signature(SECRET, STAMP) == "IqbZ3AsBZSSyN9Fzt9sHpvnOYP4MdTLb+pmikQCmZ34="
    world.clock.instant = datetime(2026, 1, 1)
    build_channel(world.settings, "ops").send(message(), world.clock)
    query = urlsplit(world.ops.requests[0].path).query
    assert query == (f"access_token=tok-0815&timestamp={STAMP}&sign=IqbZ3AsBZSSyN9Fzt9sHpvnOYP4MdTLb%2BpmikQCmZ34%3D")


def test_every_attempt_has_a_fresh_timestamp(world):
    channel = build_channel(world.settings, "ops")
    for _ in range(2):
        channel.send(message(), world.clock)
        world.clock.advance(300)
    stamps = [parse_qs(urlsplit(r.path).query)["timestamp"] for r in world.ops.requests]
    assert stamps == [["1769925600000"], ["1769925900000"]]


def test_dingtalk_gets_markdown_with_title_and_text(world):
    build_channel(world.settings, "ops").send(message("正文"), world.clock)
    got = world.ops.requests[0]
    assert got.json == {"msgtype": "markdown", "markdown": {"title": "[FIRING] a (b)", "text": "正文"}}
    assert got.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        ((200, b'{"errcode":310000,"errmsg":"keywords not in content"}', {}), "310000", "keywords not in content"),
        ((200, b'{"errcode":"130101","errmsg":"send too fast"}', {}), "130101", "send too fast"),
        ((200, b"<html>login</html>", {}), None, "gave no errcode"),
        ((200, b"[]", {}), None, "gave no errcode"),
        ((500, b'{"errcode":0}', {}), "0", "answered 500"),
        ((302, b"", {"Location": "http://127.0.0.1:9/elsewhere"}), None, "answered 302"),
    ],
)
def test_only_200_with_errcode_zero_is_sent(world, answer, code, error):
    """A-401; a redirect is not followed."""
    world.ops.answer = lambda _: answer
    result = build_channel(world.settings, "ops").send(message(), world.clock)
    assert not result.ok
    assert result.provider_code == code
    assert error in (result.error or "")
    assert len(world.ops.requests) == 1


def test_errors_and_targets_hold_no_secret(world):
    for answer in ((500, b"", {}), (200, b'{"errcode":1}', {})):
        world.ops.answer = lambda _, a=answer: a
        result = build_channel(world.settings, "ops").send(message(), world.clock)
        assert "tok-0815" not in repr(result)
        assert SECRET not in repr(result)
    (world.root / "ops.url").write_text("http://127.0.0.1:1/robot?access_token=tok-0815")
    result = build_channel(world.settings, "ops").send(message(), world.clock)
    assert not result.ok
    assert "cannot be reached" in (result.error or "")
    assert "tok-0815" not in repr(result)


@contextmanager
def deaf_server():
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_receiver_that_hangs_is_given_up_and_tried_again_later(make_world):
    world = make_world(ops=", timeout_s: 0.2")
    with deaf_server() as url:
        (world.root / "ops.url").write_text(url)
        world.says()
        world.run(20)
        (row,) = world.notes()
        assert (row["state"], row["attempts"]) == ("failed", 1)
        assert "did not answer within 0.2 s" in row["error"]
    (world.root / "ops.url").write_text(world.ops.url)
    world.run(310)
    assert world.instants == [310]


@given(st.text(min_size=0, max_size=300), st.integers(1, 300))
def test_a_cut_text_fits_and_is_a_beginning_of_the_text(text, limit):
    done = cut(text, limit, "…")
    assert len(done.encode()) <= max(limit, 3)
    assert done == text or text.startswith(done.removesuffix("…"))


@pytest.mark.parametrize("character", ["a", "缺", "🍄", '"', "\n", "\\"])
def test_dingtalk_bodies_are_at_most_20000_bytes_and_valid(character):
    body = markdown_body(message(character * 30_000, title="题" * 500))
    assert MOST_BYTES - 12 < len(body) <= MOST_BYTES
    text = json.loads(body)["markdown"]["text"]
    assert text.endswith("完整内容见告警页面）")
    assert set(text.split("…")[0]) == {character}


def test_webhook_carries_our_own_json(make_world, clock):
    with Receiver(clock, answer=lambda _: (204, b"", {})) as hook:
        world = make_world(critical="hook", more="  - {id: hook, type: webhook, webhook_file: hook.url}")
        (world.root / "hook.url").write_text(hook.url)
        world.says(value=0.0, threshold=1.0, details={"last": "x"})
        world.run(10)
        body = hook.requests[0].json
    assert (body["kind"], body["title"], body["severity"]) == ("firing", "[FIRING] target.down (collector)", "critical")
    alert = body["alerts"][0]
    assert alert["alert_id"] == world.alert()["alert_id"]
    assert (alert["labels"], alert["value"], alert["threshold"]) == ({"target": "collector"}, 0.0, 1.0)
    assert alert["fired_at"] == "2026-02-01T06:00:00.000000Z"
    assert alert["runbook_url"] == "http://127.0.0.1:8787/runbooks/target.down"


def test_webhook_can_speak_like_alertmanager(make_world, clock):
    with Receiver(clock) as hook:
        more = "  - {id: hook, type: webhook, webhook_file: hook.url, alertmanager: true}"
        world = make_world(critical="hook", more=more)
        (world.root / "hook.url").write_text(hook.url)
        for target in "ab":
            world.says(labels={"target": target})
        world.run(10)
        for target in "ab":
            world.says(condition="false", labels={"target": target})
        world.run(30)
        firing, resolved = (r.json for r in hook.requests)
    assert (firing["version"], firing["status"], firing["receiver"]) == ("4", "firing", "hook")
    assert firing["groupLabels"] == {"alertname": "target.down", "service": "collector"}
    assert "target" not in firing["commonLabels"]
    assert [a["labels"]["target"] for a in firing["alerts"]] == ["a", "b"]
    assert {a["endsAt"] for a in firing["alerts"]} == {"0001-01-01T00:00:00Z"}
    assert resolved["status"] == "resolved"
    assert {a["endsAt"] for a in resolved["alerts"]} == {"2026-02-01T06:00:30.000000Z"}
    assert {a["fingerprint"] for a in resolved["alerts"]} == {a["fingerprint"] for a in firing["alerts"]}


class Mailbox:
    """What an SMTP server of aiosmtpd does with a mail."""

    def __init__(self, answer: str = "250 OK") -> None:
        self.answer, self.mails = answer, []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope)
        return self.answer


@contextmanager
def smtp(box: Mailbox):
    from aiosmtpd.controller import Controller

    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


MAIL = "  - {{id: mail, type: email, smtp_host: 127.0.0.1, smtp_port: {port}, smtp_tls: none, sender: mp@example.com, recipients: [a@example.com, b@example.com]}}"


def test_mail_arrives_with_subject_and_text_for_all_recipients(make_world):
    box = Mailbox()
    with smtp(box) as port:
        world = make_world(critical="mail", more=MAIL.format(port=port))
        world.says(message="采集器的指标端点没有响应")
        world.run(10)
    (envelope,) = box.mails
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert envelope.rcpt_tos == ["a@example.com", "b@example.com"]
    assert mail["Subject"] == "[FIRING] target.down (collector)"
    assert "采集器的指标端点没有响应" in mail.get_content()
    assert "**" not in mail.get_content()
    assert [n["state"] for n in world.notes()] == ["sent"]


def test_mail_that_is_refused_is_a_failure_with_the_servers_code(make_world):
    with smtp(Mailbox("554 no")) as port:
        world = make_world(critical="mail", more=MAIL.format(port=port))
        world.says()
        world.run(10)
    (row,) = world.notes()
    assert (row["state"], row["provider_code"]) == ("failed", "554")


def test_mail_without_a_server_is_a_failure(make_world):
    world = make_world(critical="mail", more=MAIL.format(port=free_port()))
    world.says()
    world.run(10)
    assert world.notes()[0]["state"] == "failed"
    assert "refused" in world.notes()[0]["error"].lower()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate of 127.0.0.1 that nobody but itself signed, with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail of the tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(pem) + secret)
    (path.parent / "ca.pem").write_bytes(made.public_bytes(pem))
    return path


@contextmanager
def secure_smtp(box: Mailbox, certificate: Path, tls: str):
    """A server that takes mail over TLS from ``mp`` with the password ``right`` only."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    def login(server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == (b"mp", b"right"), handled=False)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    starttls = {"tls_context": context, "require_starttls": True}
    options = starttls if tls == "starttls" else {"ssl_context": context, "auth_require_tls": False}
    controller = Controller(
        box, hostname="127.0.0.1", port=free_port(), authenticator=login, auth_required=True, **options
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def secure_mail(port: int, tls: str, more: str = ", smtp_ca_file: ca.pem") -> str:
    plain = MAIL.format(port=port).replace("smtp_tls: none", f"smtp_tls: {tls}").removesuffix("}")
    return plain + ", username_env: MP_TEST_USER, password_env: MP_TEST_PASSWORD" + more + "}"


@pytest.fixture
def mail_world(make_world, certificate, monkeypatch):
    def make(port: int, tls: str, password: str = "right", more: str = ", smtp_ca_file: ca.pem"):
        monkeypatch.setenv("MP_TEST_USER", "mp")
        monkeypatch.setenv("MP_TEST_PASSWORD", password)
        world = make_world(critical="mail", more=secure_mail(port, tls, more))
        (world.root / "ca.pem").write_bytes((certificate.parent / "ca.pem").read_bytes())
        world.says(message="采集器的指标端点没有响应")
        world.run(10)
        return world.notes()[0]

    return make


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_mail_is_sent_over_tls_after_a_login(mail_world, certificate, tls):
    box = Mailbox()
    with secure_smtp(box, certificate, tls) as port:
        row = mail_world(port, tls)
    assert row["state"] == "sent", row["error"]
    assert "采集器的指标端点没有响应" in message_from_bytes(box.mails[0].content, policy=policy.default).get_content()


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_wrong_password_is_a_failure_that_says_so_and_not_what_it_was(mail_world, certificate, tls):
    with secure_smtp(Mailbox(), certificate, tls) as port:
        row = mail_world(port, tls, password="wrong-0815")
    assert (row["state"], row["provider_code"]) == ("failed", "535")
    assert "refuses the login" in row["error"]
    assert "wrong-0815" not in row["error"]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_certificate_of_nobody_known_is_refused_and_nothing_is_sent(mail_world, certificate, tls):
    box = Mailbox()
    with secure_smtp(box, certificate, tls) as port:
        row = mail_world(port, tls, more="")
    assert row["state"] == "failed"
    assert "certificate is not accepted: self-signed certificate" in row["error"].replace("self signed", "self-signed")
    assert box.mails == []


@pytest.mark.parametrize(("tls", "error"), [("starttls", "STARTTLS"), ("tls", "does not speak TLS")])
def test_a_server_without_tls_gets_neither_password_nor_mail(mail_world, tls, error):
    box = Mailbox()
    with smtp(box) as port:
        row = mail_world(port, tls)
    assert row["state"] == "failed"
    assert error in row["error"]
    assert box.mails == []


def test_half_a_login_is_an_error_of_the_configuration(make_world):
    with pytest.raises(ConfigError, match="a login needs username_env"):
        _ = make_world(more=secure_mail(25, "tls").replace(", password_env: MP_TEST_PASSWORD", "")).settings


def test_apprise_reaches_what_it_knows(make_world, clock):
    with Receiver(clock, answer=lambda _: (200, b"{}", {})) as hook:
        world = make_world(critical="other", more="  - {id: other, type: apprise, webhook_file: other.url}")
        (world.root / "other.url").write_text(hook.url.replace("http://", "json://"))
        world.says()
        world.run(10)
        assert hook.requests[0].json["title"] == "[FIRING] target.down (collector)"
        (row,) = testing.send_test(world.settings, world.state, world.clock, channel="other")
        assert row["state"] == "sent"


def test_file_and_log_channels(make_world, caplog):
    world = make_world(critical="f, l", more="  - {id: f, type: file}\n  - {id: l, type: log}")
    world.says()
    with caplog.at_level("INFO", logger="monitoring_pipelines.alerts"):
        world.run(10)
    assert "[FIRING] target.down (collector)" in caplog.text
    names = [p.name for p in (world.root / "logs" / "alerts").glob("alert_*.json")]
    assert len(names) == 1
    assert {n["state"] for n in world.notes()} == {"sent"}


def test_a_missing_secret_is_a_failed_attempt_not_a_crash(world):
    (world.root / "ops.secret").write_text("")
    world.says()
    world.run(20)
    assert [(n["state"], n["attempts"]) for n in world.notes()] == [("failed", 1)]
    (world.root / "ops.secret").write_text(SECRET)
    world.run(310)
    assert world.instants == [310]


def test_a_slow_channel_does_not_delay_another(make_world, clock):
    """Each channel is served on its own; the slow one holds its answer until the other has received."""
    arrived = threading.Event()

    def hold(_):
        arrived.wait(10)
        return 200, b"", {}

    def take(_):
        arrived.set()
        return 200, b"", {}

    with Receiver(clock, answer=hold) as slow, Receiver(clock, answer=take) as quick:
        more = "  - {id: slow, type: webhook, webhook_file: slow.url}\n  - {id: quick, type: webhook, webhook_file: quick.url}"
        world = make_world(critical="slow, quick", more=more)
        (world.root / "slow.url").write_text(slow.url)
        (world.root / "quick.url").write_text(quick.url)
        world.says()
        world.run(10)
        assert arrived.is_set()
        assert {n["state"] for n in world.notes()} == {"sent"}
