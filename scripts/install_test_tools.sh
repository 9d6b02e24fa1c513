#!/bin/sh
# Installs what the tests drive for real (MariaDB, PostgreSQL, Chromium, Prometheus' and Percona's tools) when it is missing, and says so.
# The tests themselves fail on a missing component unless ALLOW_SKIP=1, so nothing is skipped silently.
set -eu

missing=""
command -v mariadbd >/dev/null 2>&1 || [ -x /usr/sbin/mariadbd ] || missing="$missing mariadb-server"
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || missing="$missing chromium"
command -v pt-table-sync >/dev/null 2>&1 || missing="$missing percona-toolkit"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v amtool >/dev/null 2>&1 || missing="$missing prometheus-alertmanager"
command -v postgres >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
# What runbooks tell people to type is typed by a test.
command -v sqlite3 >/dev/null 2>&1 || missing="$missing sqlite3"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v ss >/dev/null 2>&1 || missing="$missing iproute2"
command -v top >/dev/null 2>&1 || missing="$missing procps"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need:$missing. Install them with this system's package manager, or set ALLOW_SKIP=1." >&2
    [ "${ALLOW_SKIP:-}" = 1 ] && exit 0
    exit 1
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "Installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
