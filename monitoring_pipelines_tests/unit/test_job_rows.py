"""Rows of jobs as a server holds them, and finding one of ten thousand."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.api.answers import to_json
from monitoring_pipelines.published import jobs

_IDS = st.sampled_from(["a", "b", "b2", "c", "任务"])


def _row(source: str, job: str) -> dict[str, Any]:
    return dict.fromkeys(jobs._COLUMNS) | {"source_id": source, "job_id": job, "p95_duration_ms": 1.5}


@given(st.sets(st.tuples(st.sampled_from(["s1", "s2", "s3"]), _IDS)), st.lists(_IDS, unique=True), _IDS)
def test_a_job_is_found_by_id_in_every_source_that_has_it(
    mapped: set[tuple[str, str]], own: list[str], job: str
) -> None:
    rows = [jobs.Job(_row(*key)) for key in [*sorted(mapped), *((jobs.SELF, name) for name in own)]]
    found = jobs.of_id(rows, job, ["s3", "s1", "s2", jobs.SELF])
    assert sorted(row["source_id"] for row in found) == sorted(row["source_id"] for row in rows if row["job_id"] == job)
    assert all(row["job_id"] == job for row in found)


def test_a_row_of_a_job_is_read_and_written_out_as_the_dictionary_it_was_made_of() -> None:
    row = _row("s1", "a")
    assert dict(jobs.Job(row)) == row
    assert to_json([jobs.Job(row)]) == to_json([row])
