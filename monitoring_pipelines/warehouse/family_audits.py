"""Invariants that follow from what the models say of their columns: sums, ranges, averages, order, keys, histograms.

What belongs here: their SQL, rendered from the names and roll-up rules of a family's models, so that a column is listed
once. What does not: invariants that need raw rows or a definition of their own (``dbt_like_sql/audits``).

Endpoint statistics have audits of their own for all but the sums (M-903).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from monitoring_pipelines.warehouse.families import ENDPOINT, FAMILIES, Family
from monitoring_pipelines.warehouse.sql_models import ColumnDoc, Model, load_model

GRAINS = ("minute", "hour", "day")
#: Columns of one figure from the smallest to the largest (M-906).
_ORDER = ("min", "p50", "p95", "p99", "max")


def family_audits() -> Iterator[Model]:
    """All derived audits of all families."""
    for family in FAMILIES.values():
        yield _audit(family, "M-903", "sums_add_up", "Sums of the minutes are the hour, sums of the hours are the day",
                     _sums(family))  # fmt: skip
        if family.name == ENDPOINT:
            continue
        yield _audit(family, "M-902", "values_in_range", "No value is negative, and rates lie between 0 and 100",
                     _bad_rows(family, _out_of_range, "a value is out of range"))  # fmt: skip
        yield _audit(family, "M-907", "one_row_per_key", "One row per key, with a sound history", _keys(family))
        for rule, name, description, condition in (
            (
                "M-906",
                "averages_and_order",
                "Averages are sum / n; minimum, percentiles and maximum are in order",
                _unsound,
            ),
            ("M-910", "histograms", "Histograms count every observation", _uncounted),
        ):
            if condition(load_model(family.table("minute"))):
                yield _audit(
                    family, rule, name, description, _bad_rows(family, condition, "figures do not fit together")
                )


def _audit(family: Family, rule: str, name: str, description: str, sql: str) -> Model:
    prefix = "" if family.name == ENDPOINT else f"{family.name}_"
    full = f"{rule.replace('-', '').lower()}_{prefix}{name}"
    head = f"/*---\nrule: {rule}\nfamily: {family.name}\ndescription: {description}\n---*/\n"
    return Model(f"audits.{full}", Path(f"{full}.sql"), head + sql)


def _sums(family: Family) -> str:
    """Maps of counts are left to M-910: they have no order of their own to add up in.

    A day is compared once it is closed: before that it is computed when one of its hours is complete, and its newest
    hour goes on growing meanwhile.
    """
    parts = []
    for small, large, unit in (("minute", "hour", "hour"), ("hour", "day", "day")):
        fine, coarse = load_model(family.table(small)), load_model(family.table(large))
        summed = [name for name, column in coarse.columns.items() if column.rollup == "sum" and column.unit != "map"]
        subject = ("source_id", *family.subject)
        waiting = (
            ""
            if unit == "hour"
            else "\n    and c.state = 'closed' and (c.source_id, c.bucket) not in "
            f"(select (source_id, \"day\") from meta.dirty_day where family = '{family.name}')"
        )
        parts.append(
            f"select '{coarse.name}' as table_name, "
            + ", ".join(f"coalesce(c.{name}, f.{name}) as {name}" for name in subject)
            + f", coalesce(c.bucket, f.bucket) as bucket, 'the {small}s add up to something else' as detail\n"
            f"from (\n    select {', '.join(subject)}, date_trunc('{unit}', {fine.bucket}) as bucket, "
            + ", ".join(f"sum({name}) as {name}" for name in summed)
            + f"\n    from {fine.name}\n    where {fine.bucket} >= date_trunc('{unit}', $window_start)"
            f" and {fine.bucket} < date_trunc('{unit}', $window_end - interval 1 microsecond) + interval 1 {unit}"
            "\n    group by all\n) as f\nfull join (\n"
            f"    select {', '.join(subject)}, cast({coarse.bucket} as timestamp) as bucket, frozen, state, {', '.join(summed)}"
            f"\n    from {coarse.name}\n    where {coarse.bucket} >= date_trunc('{unit}', $window_start) "
            f"and {coarse.bucket} < $window_end\n) as c\n    on "
            + " and ".join(f"f.{name} = c.{name}" for name in (*subject, "bucket"))
            + "\nwhere\n    not coalesce(c.frozen, false)\n    and "
            f"row({', '.join(f'f.{name}' for name in summed)}) is distinct from row({', '.join(f'c.{name}' for name in summed)})"
            + waiting
        )
    return "\nunion all by name\n".join(parts)


def _bad_rows(family: Family, condition: Callable[[Model], str], detail: str) -> str:
    """Rows of any grain for which the condition of its model holds."""
    return "\nunion all\n".join(
        f"select '{model.name}' as table_name, {', '.join(model.key[:-1])}, cast({model.bucket} as timestamp) as bucket, "
        f"'{detail}' as detail\nfrom {model.name}\nwhere {_inside(model, grain)} and ({condition(model)})"
        for grain, model in ((grain, load_model(family.table(grain))) for grain in GRAINS)
    )


def _keys(family: Family) -> str:
    return "\nunion all\n".join(
        f"select '{model.name}' as table_name, {', '.join(model.key[:-1])}, cast({model.bucket} as timestamp) as bucket, "
        f"concat(count(*), ' rows, revision ', max(revision)) as detail\nfrom {model.name}\nwhere {_inside(model, grain)}\n"
        f"group by {', '.join(model.key)}\nhaving count(*) > 1 or min(coalesce(revision, 0)) < 1\n"
        "    or bool_or((revision > 1) <> (restated_at is not null))\n"
        "    or bool_or((state = 'closed') <> (first_closed_at is not null))"
        for grain, model in ((grain, load_model(family.table(grain))) for grain in GRAINS)
    )


def _inside(model: Model, grain: str) -> str:
    return f"{model.bucket} >= date_trunc('{grain}', $window_start) and {model.bucket} < $window_end"


def _numbers(model: Model) -> dict[str, ColumnDoc]:
    return {name: column for name, column in model.columns.items() if column.unit and column.unit != "map"}


def _out_of_range(model: Model) -> str:
    numbers = _numbers(model)
    below = " or ".join(f"{name} < 0" for name in numbers)
    rates = [name for name, column in numbers.items() if name.endswith("_rate") and column.unit == "percent"]
    return below + "".join(f" or {name} > 100" for name in rates)


def _unsound(model: Model) -> str:
    """Averages that are not sum / n to two decimals, and figures out of order; empty if the model has none."""
    columns = model.columns
    found = []
    for name in columns:
        base = name.removeprefix("avg_")
        stem = base.removesuffix("_ms")
        n, total = f"{stem}_n", base.replace(stem, f"{stem}_sum", 1)
        if base != name and n in columns and total in columns:
            found.append(f"({n} = 0) <> ({name} is null) or abs({name} - {total} / {n}) > 0.005001")
    for figure in sorted({name.split("_", 1)[1] for name in columns if name.split("_", 1)[0] in ("p50", "p95")}):
        present = [f"{word}_{figure}" for word in _ORDER if f"{word}_{figure}" in columns]
        found += [f"{low} > {high} + 0.005" for low, high in pairwise(present)]
    return " or ".join(found)


def _uncounted(model: Model) -> str:
    """Histograms whose counts do not add up to the observations; empty if the model has none."""
    return " or ".join(
        f"coalesce(list_sum(map_values(cast({name} as map(varchar, bigint)))), 0) <> {name.removesuffix('_hist')}_n"
        for name in model.columns
        if name.endswith("_hist")
    )
