/*---
description: >-
  One row per job and UTC hour in which a run ended, was missed or was skipped (M-501). The jobs of the product itself have the source _self.
grain: hour
key: [source_id, job_id, stat_hour]
family: job
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  job_id: {doc: "Job, compared as bytes (E-401)"}
  stat_hour: {doc: "Start of the UTC hour (M-101)"}
  success_count: {rollup: sum, unit: "runs", doc: "Runs that succeeded, by their end (E-121)"}
  failure_count: {rollup: sum, unit: "runs", doc: "Runs that failed or timed out, by their end (E-121)"}
  timeout_count: {rollup: sum, unit: "runs", doc: "Those of them that timed out"}
  total_runs: {rollup: derived, unit: "runs", doc: "success_count + failure_count (M-501)"}
  success_rate: {rollup: derived, unit: "percent", doc: "100 * success_count / total_runs"}
  missed_count: {rollup: sum, unit: "runs", doc: "Planned runs that did not take place, by their plan; in no rate (M-501)"}
  skipped_count: {rollup: sum, unit: "runs", doc: "Planned runs that were skipped, by their plan; in no rate (M-501)"}
  manual_count: {rollup: sum, unit: "runs", doc: "Finished runs that somebody started"}
  catchup_count: {rollup: sum, unit: "runs", doc: "Finished runs that made up for a missed one"}
  duration_n: {rollup: sum, unit: "observations", doc: "Finished runs whose duration is known; negative and absurd ones are none (M-215)"}
  duration_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of these durations"}
  avg_duration_ms: {rollup: derived, unit: "ms", doc: "duration_sum_ms / duration_n"}
  min_duration_ms: {rollup: min, unit: "ms", doc: "Shortest duration"}
  max_duration_ms: {rollup: max, unit: "ms", doc: "Longest duration"}
  p50_duration_ms: {rollup: recompute, unit: "ms", doc: "Median of durations (M-451)"}
  p95_duration_ms: {rollup: recompute, unit: "ms", doc: "95th percentile of durations (M-451)"}
  p99_duration_ms: {rollup: recompute, unit: "ms", doc: "99th percentile of durations (M-451)"}
  duration_hist: {rollup: sum, unit: "map", doc: "Histogram of durations, index to count (M-453); NULL without any"}
  sla_violations: {rollup: sum, unit: "runs", doc: "Runs longer than the limit their job had when they ended; NULL without a limit"}
  last_outcome: {rollup: last, doc: "Outcome of the newest finished run of the bucket"}
  last_ended_at: {rollup: last, doc: "When it ended"}
  state: {rollup: none, doc: "closed, or partial while minutes are missing (M-801)"}
  closed_minutes: {rollup: none, unit: "minutes", doc: "Closed minutes in the bucket (M-801)"}
---*/
select
    figure.source_id,
    figure.job_id,
    figure.bucket as stat_hour,
    figure.success_count,
    figure.failure_count,
    figure.timeout_count,
    figure.total_runs,
    figure.success_rate,
    figure.missed_count,
    figure.skipped_count,
    figure.manual_count,
    figure.catchup_count,
    figure.duration_n,
    figure.duration_sum_ms,
    figure.avg_duration_ms,
    figure.min_duration_ms,
    figure.max_duration_ms,
    figure.p50_duration_ms,
    figure.p95_duration_ms,
    figure.p99_duration_ms,
    figure.duration_hist,
    figure.sla_violations,
    figure.last_outcome,
    figure.last_ended_at,
    case when figure.closed_minutes = 60 then 'closed' else 'partial' end as state,
    figure.closed_minutes
from job_figures($window_start, $window_end, interval 1 hour) as figure
