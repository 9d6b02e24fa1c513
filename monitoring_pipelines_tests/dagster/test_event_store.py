"""Recording many partitions at once: every event is there for other processes at once, and nothing stays changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, asset, materialize

from monitoring_pipelines.orchestration.event_store import many_events

KEYS = [f"2026-02-01-{hour:02d}:00" for hour in range(24)]


def record(home: Path, *, quickly: bool) -> tuple[set[str], int]:
    """Partitions of ``a`` another process sees before the block ends, and after the run."""
    seen: set[str] = set()

    @asset
    def recorder(context) -> None:
        def log_all() -> None:
            for key in KEYS:
                context.log_event(AssetMaterialization("a", partition=key, metadata={"rows": 1}))
            with DagsterInstance.from_ref(context.instance.get_ref()) as other:
                seen.update(other.get_materialized_partitions(AssetKey("a")))

        if quickly:
            with many_events(context.instance, context.run_id):
                log_all()
        else:
            log_all()

    with DagsterInstance.local_temp(str(home)) as instance:
        result = materialize([recorder], instance=instance)
        assert result.success
        stored = instance.all_logs(result.run_id)
        assert "_connect" not in vars(instance.event_log_storage)
        return seen, sum(entry.dagster_event_type is not None for entry in stored)


def test_events_recorded_quickly_are_seen_at_once_and_are_the_same_as_others(tmp_path: Path):
    for name in ("plain", "quick"):
        (tmp_path / name).mkdir()
    plain = record(tmp_path / "plain", quickly=False)
    quick = record(tmp_path / "quick", quickly=True)
    assert quick == plain
    assert quick[0] == set(KEYS)


def test_an_error_inside_the_block_leaves_the_storage_as_it_was(tmp_path: Path):
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        with pytest.raises(ZeroDivisionError), many_events(instance, "00000000-0000-0000-0000-000000000001"):
            raise ZeroDivisionError
        assert "_connect" not in vars(instance.event_log_storage)
        assert instance.get_runs() == []
