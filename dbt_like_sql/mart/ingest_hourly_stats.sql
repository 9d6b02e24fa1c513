/*---
description: >-
  One row per process, series and UTC hour, from the first sample until a day after the last and wherever the time between two samples reaches (M-701).
grain: hour
key: [source_id, process_id, series, stat_hour]
family: ingest
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  process_id: {doc: "Process that counts"}
  series: {doc: "Series of messages; * is the sum over the series of the process"}
  stat_hour: {doc: "Start of the UTC hour (M-101)"}
  increase: {rollup: sum, unit: "units", doc: "What counters of kind ok or generic gained, in proportion to time (M-701); NULL before a series has a second sample"}
  error_increase: {rollup: sum, unit: "units", doc: "The same for counters of errors; NULL without any"}
  rate_per_s: {rollup: derived, unit: "units per second", doc: "increase / closed seconds of the bucket"}
  success_rate: {rollup: derived, unit: "percent", doc: "100 * ok / (ok + error); NULL unless both are counted"}
  samples: {rollup: sum, unit: "samples", doc: "Samples of the bucket"}
  resets: {rollup: sum, unit: "resets", doc: "Decreases: the counter began again"}
  gaps: {rollup: sum, unit: "intervals", doc: "Missing sampling intervals, where the next sample came"}
  state: {rollup: none, doc: "closed, or partial while minutes are missing (M-801)"}
  closed_minutes: {rollup: none, unit: "minutes", doc: "Closed minutes in the bucket (M-801)"}
---*/
select
    figure.source_id,
    figure.process_id,
    figure.series,
    figure.bucket as stat_hour,
    figure.increase,
    figure.error_increase,
    figure.rate_per_s,
    figure.success_rate,
    figure.samples,
    figure.resets,
    figure.gaps,
    case when figure.closed_minutes = 60 then 'closed' else 'partial' end as state,
    figure.closed_minutes
from ingest_figures($window_start, $window_end, interval 1 hour) as figure
