#!/bin/sh
# Builds the wheel, installs it outside the checkout beside the dependencies of the given interpreter, and runs it there.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --wheel --no-isolation --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/site" "$work"/dist/*.whl
cd "$work"
PYTHONPATH="$work/site" "$python" -P - <<'PY'
import os
import pathlib

import monitoring_pipelines
from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.warehouse.sql_models import load_models

here = pathlib.Path(monitoring_pipelines.__file__).resolve()
assert os.environ["PYTHONPATH"] in str(here) or here.is_relative_to(pathlib.Path(os.environ["PYTHONPATH"]).resolve()), here
models = load_models()
assert any("endpoint_minute_stats" in name for name in models), sorted(models)
build_defs()
print(f"wheel: {len(models)} SQL models and the Dagster definitions load outside the checkout")
PY
