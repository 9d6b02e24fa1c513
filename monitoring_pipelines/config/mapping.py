"""Preset + user's block → complete table mappings in one normal form (E-502, E-503, E-505, E-508).

What belongs here: merging, short forms, defaults, and where each resolved value came from. Input and output are plain
data; types are checked afterwards by ``source_schema``, meaning by ``semantics``.
What does not: YAML (``loader``), the live schema (``live``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from monitoring_pipelines.config import rules
from monitoring_pipelines.config.presets import NAMES, load_preset
from monitoring_pipelines.config.suggest import did_you_mean
from monitoring_pipelines.config.yaml_text import Path
from monitoring_pipelines.entities import Entity, entities

_SOURCES_OF_VALUE = ("column", "expr", "const", "derive")
_OWN_KEYS = ("key", "never_read", "only_if_named")


@dataclass(frozen=True)
class Problem:
    """One configuration problem at a place of the user's document."""

    path: Path
    message: str
    hint: str | None = None


@dataclass
class Notes:
    """What merging learned beside its result."""

    problems: list[Problem] = field(default_factory=list)
    #: Resolved place → place in the user's document.
    origins: dict[Path, Path] = field(default_factory=dict)
    #: Resolved table place → columns of the source table whose values are never read (E-404).
    never_read: dict[Path, frozenset[str]] = field(default_factory=dict)

    def origin(self, place: Path) -> Path:
        """The user's place for a resolved one: of the place itself or its nearest known parent, plus the rest."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]] + place[length:]
        return place

    def problem(self, path: Path, message: str, hint: str | None = None) -> None:
        """Note a problem and go on, so that one run shows them all."""
        self.problems.append(Problem(path, message, hint))


def resolve_source(raw: dict[str, Any], index: int, notes: Notes) -> dict[str, Any]:
    """One source as the user wrote it → the same with its preset merged in and ``tables`` in list form."""
    place: Path = ("sources", index)
    result = {key: value for key, value in raw.items() if key != "tables"}
    preset = _preset(raw, place, notes)
    for key, value in preset.items():
        if key in ("tables", "scrape"):
            continue
        if isinstance(value, dict):
            own = result.get(key)
            if own is None or isinstance(own, dict):
                result[key] = value | (own or {})
        else:
            result.setdefault(key, value)
    tables = raw.get("tables")
    if tables is not None and not isinstance(tables, dict):
        notes.problem((*place, "tables"), "a block of entities is needed, e.g. task: {…}")
        tables = {}
    result["tables"] = _Tables(result, place, notes).resolve(preset.get("tables", {}), tables or {})
    return result


def _preset(raw: dict[str, Any], place: Path, notes: Notes) -> dict[str, Any]:
    name = raw.get("preset")
    if name is None:
        return {}
    if name not in NAMES:
        notes.problem(
            (*place, "preset"), f"unknown preset {name!r}{did_you_mean(str(name), NAMES)}", f"known: {', '.join(NAMES)}"
        )
        return {}
    return load_preset(name)


@dataclass(frozen=True)
class _Block:
    """A table block and where the user wrote it (None: it is the preset's)."""

    data: dict[str, Any]
    place: Path | None


class _Tables:
    """Resolves the ``tables`` of one source."""

    def __init__(self, source: dict[str, Any], place: Path, notes: Notes) -> None:
        self.source = source
        self.place = place
        self.notes = notes

    def resolve(self, preset: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
        known = entities()
        result: dict[str, list[dict[str, Any]]] = {}
        for name in user:
            if name not in known:
                hint = f"known: {', '.join(known)}"
                place = (*self.place, "tables", name)
                self.notes.problem(place, f"unknown entity{did_you_mean(name, known)}", hint)
        for name, entity in known.items():
            if name in user and user[name] is None:
                continue  # "task_event: null" removes the preset's mapping of the entity
            blocks = self.pair(name, _as_list(preset.get(name)), self.user_blocks(name, user.get(name)))
            resolved = [self.block(entity, block, number) for number, block in enumerate(blocks)]
            if resolved:
                result[name] = resolved
        self.inline_outputs(result)
        return result

    def user_blocks(self, name: str, value: Any) -> list[_Block]:
        place = (*self.place, "tables", name)
        if value is None:
            return []
        if isinstance(value, dict):
            return [_Block(value, place)]
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return [_Block(item, (*place, number)) for number, item in enumerate(value)]
        self.notes.problem(place, "a block with table, key and columns is needed, or a list of such blocks")
        return []

    def pair(self, name: str, preset: list[dict[str, Any]], user: list[_Block]) -> list[_Block]:
        """Merge each user block over the preset block of the same table (or the only one); others stand alone."""
        named = {_base_name(block.data.get("table")) for block in user}
        chosen = [b for b in preset if b.get("only_if_named") and _base_name(b.get("table")) in named]
        defaults = chosen or [b for b in preset if not b.get("only_if_named")]
        result = [_Block(block, None) for block in defaults]
        for block in user:
            at = self.partner(name, result, block, len(user))
            if at is None:
                result.append(block)
            elif at >= 0:
                result[at] = _Block(self.merge(result[at].data, block), block.place)
        return result

    def partner(self, name: str, blocks: list[_Block], user: _Block, user_count: int) -> int | None:
        """Index of the preset block that ``user`` changes; None: it stands alone; -1: it cannot be told."""
        free = [i for i, block in enumerate(blocks) if block.place is None]
        table = user.data.get("table")
        for index in free:
            if table is not None and _base_name(blocks[index].data.get("table")) == _base_name(table):
                return index
        inline = [i for i in free if blocks[i].data.get("inline")]
        if table is not None and inline and "inline" not in user.data:
            blocks[inline[0]] = _Block({}, None)  # an own output table takes the place of the inline predicate
            return inline[0]
        if len(free) == 1 and len(blocks) == 1 and user_count == 1:
            return free[0]
        if table is None and free and user.place is not None:
            names = ", ".join(str(blocks[i].data.get("table")) for i in free)
            self.notes.problem(user.place, f"the preset feeds {name} from several tables; say which: {names}")
            return -1
        return None

    def merge(self, base: dict[str, Any], user: _Block) -> dict[str, Any]:
        merged = {**base, **user.data}
        columns = dict(base.get("columns") or {})
        own = user.data.get("columns")
        if own is not None and not isinstance(own, dict):
            self.notes.problem((*(user.place or ()), "columns"), "a block of columns is needed")
            own = {}
        for name, form in (own or {}).items():
            columns[name] = _merge_column(columns.get(name), form)
        merged["columns"] = columns
        return merged

    # one block

    def block(self, entity: Entity, block: _Block, number: int) -> dict[str, Any]:
        """Normalise one merged block and note where its parts came from."""
        place = (*self.place, "tables", entity.name, number)
        own = block.place or (*self.place, "preset")
        self.notes.origins[place] = own
        if block.place is None:
            self.notes.origins[(*place, "columns")] = own
        data = {key: value for key, value in block.data.items() if key not in _OWN_KEYS}
        self.notes.never_read[place] = frozenset(block.data.get("never_read") or ())
        data["entity"] = entity.name
        data["columns"] = self.columns(entity, block, place)
        if "inline" not in block.data and "table" not in block.data and block.place is not None:
            self.notes.problem(own, "table is missing")
            data["table"] = "?"
        return data

    def columns(self, entity: Entity, block: _Block, place: Path) -> dict[str, Any]:
        raw = block.data.get("columns")
        columns = dict(raw) if isinstance(raw, dict) else {}
        self.key(entity, block, columns, place)
        updated = block.data.get("updated_at")
        if isinstance(updated, str) and any(c.name == "updated_at" for c in entity.columns):
            columns.setdefault("updated_at", updated)
        known = [c.name for c in entity.mappable]
        optional = block.data.get("optional") is True
        result: dict[str, Any] = {}
        for name, form in columns.items():
            own = self.notes.origin((*place, "columns", name))
            if name not in known:
                derived = any(c.name == name for c in entity.columns)
                message = "computed by the product, not mapped" if derived else "unknown column"
                self.notes.problem(own, message + ("" if derived else did_you_mean(name, known)))
            elif (normal := self.form(entity, name, form, own, optional)) is not None:
                result[name] = normal
        if not block.data.get("inline"):
            self.defaults(entity, result)
        return result

    def key(self, entity: Entity, block: _Block, columns: dict[str, Any], place: Path) -> None:
        """``key: x`` is the entity's key column(s) in ``columns``."""
        key = block.data.get("key")
        if key is None:
            return
        own = (*(block.place or (*self.place, "preset")), "key")
        parts = key if isinstance(key, list) else [key]
        if len(parts) != len(entity.key):
            self.notes.problem(own, f"{entity.name} needs {len(entity.key)} key column(s): {', '.join(entity.key)}")
            return
        for name, form in zip(entity.key, parts, strict=True):
            if columns.get(name) not in (None, form):
                self.notes.problem(own, f"key and columns.{name} disagree; give one of them")
                continue
            columns[name] = form
            self.notes.origins[(*place, "columns", name)] = own

    def form(self, entity: Entity, name: str, form: Any, own: Path, optional: bool) -> dict[str, Any] | None:
        """One column in long form; None when it is removed or not a column form."""
        if form is None or (isinstance(form, dict) and form.get("column", "") is None and not _has_source(form)):
            return None
        if isinstance(form, str):
            form = {"column": form}
        if not isinstance(form, dict):
            self.notes.problem(own, "a column name, or a block with column, expr or const, is needed")
            return None
        result = {key: value for key, value in form.items() if value is not None or key == "const"}
        if entity.column(name).kind == "time" and "const" not in result:
            result.setdefault("time", "naive_utc")
            if result["time"] == "naive_local":
                result.setdefault("zone", self.source.get("timezone") or "UTC")
        result.setdefault("required", not optional)
        default = rules.DEFAULTS.get(entity.name, {}).get(name)
        if default is not None and "const" not in result:
            result.setdefault("default", default)
        return result

    def defaults(self, entity: Entity, columns: dict[str, Any]) -> None:
        """NOT NULL columns the user need not map."""
        fill: dict[str, Any] = {name: {"const": value} for name, value in rules.DEFAULTS.get(entity.name, {}).items()}
        if entity.name in ("task", "worker"):
            fill["endpoint"] = {"const": self.source.get("id", "")}
        if entity.name == "task":
            expected = self.source.get("output_expected", True)
            if isinstance(expected, bool):  # a predicate is evaluated by the server for every task table
                fill["output_expected"] = {"const": expected}
        for name, form in fill.items():
            columns.setdefault(name, form)

    def inline_outputs(self, tables: dict[str, list[dict[str, Any]]]) -> None:
        """Outputs stored on the task row (E-103): the task's table and key, one virtual output per task."""
        tasks = tables.get("task", [])
        kept = []
        for number, block in enumerate(tables.get("task_output", [])):
            if not block.get("inline"):
                kept.append(block)
                continue
            own = self.notes.origin((*self.place, "tables", "task_output", number))
            wanted = _base_name(block.get("table"))
            matching = [t for t in tasks if wanted is None or _base_name(t.get("table")) == wanted]
            if len(matching) != 1:
                why = "no task table is mapped" if not tasks else "say on which task table it is"
                self.notes.problem((*own, "inline"), f"inline outputs are on the task row: {why}")
                continue
            task = matching[0]
            for name in ("table", "optional", "row_id", "where", "strategy"):
                if name in task:
                    block.setdefault(name, task[name])
            key = task["columns"].get("task_key")
            if key is not None:
                block["columns"] = {"output_key": key, "task_key": key} | block["columns"]
            kept.append(block)
        if "task_output" in tables:
            tables["task_output"] = kept
            if not kept:
                del tables["task_output"]


def _as_list(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _base_name(table: Any) -> str | None:
    return str(table).rpartition(".")[2].lower() if table is not None else None


def _has_source(form: dict[str, Any]) -> bool:
    return any(form.get(key) is not None for key in _SOURCES_OF_VALUE)


def _merge_column(base: Any, user: Any) -> Any:
    """The user's form over the preset's: a new source keeps the options, options alone keep the source (E-502)."""
    if isinstance(base, str):
        base = {"column": base}
    if isinstance(user, str):
        user = {"column": user}
    if not isinstance(base, dict) or not isinstance(user, dict):
        return user
    if user.get("column", "") is None and not _has_source(user):
        return None
    kept = dict(base)
    if "const" in user or "derive" in user:
        kept = {}
    elif _has_source(user):
        kept = {key: value for key, value in base.items() if key not in _SOURCES_OF_VALUE}
    merged = kept | user
    if isinstance(base.get("map"), dict) and isinstance(user.get("map"), dict):
        merged["map"] = base["map"] | user["map"]
    return merged
