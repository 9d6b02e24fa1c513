/*---
description: >-
  One row per channel and UTC day in which a message was created or ended or an attempt was made. The messages of the product itself have the source _self.
grain: day
key: [source_id, channel, stat_date]
family: notification
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  channel: {doc: "Channel, in upper case"}
  stat_date: {doc: "Start of the UTC day (M-101)"}
  created: {rollup: sum, unit: "messages", doc: "Messages by their creation"}
  sent: {rollup: sum, unit: "messages", doc: "Messages that arrived, by the instant of that"}
  abandoned: {rollup: sum, unit: "messages", doc: "Messages given up, by the instant of that"}
  suppressed: {rollup: sum, unit: "map", doc: "Messages that were not to be sent, by reason"}
  attempts_ok: {rollup: sum, unit: "attempts", doc: "Attempts to deliver that succeeded, by their instant (M-702)"}
  attempts_failed: {rollup: sum, unit: "attempts", doc: "Attempts that failed; each counts (M-702)"}
  success_rate: {rollup: derived, unit: "percent", doc: "100 * attempts_ok / (attempts_ok + attempts_failed)"}
  latency_n: {rollup: sum, unit: "observations", doc: "Successful attempts whose duration is known"}
  latency_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of these durations, request to answer"}
  avg_latency_ms: {rollup: derived, unit: "ms", doc: "latency_sum_ms / latency_n"}
  p95_latency_ms: {rollup: recompute, unit: "ms", doc: "95th percentile of these durations (M-451)"}
  latency_hist: {rollup: sum, unit: "map", doc: "Histogram of these durations, index to count (M-453); NULL without any"}
  repeats: {rollup: sum, unit: "messages", doc: "Messages that repeat an open alert, by creation"}
  resolves: {rollup: sum, unit: "messages", doc: "Messages that an alert is over, by creation"}
  tests: {rollup: sum, unit: "messages", doc: "Test messages, by creation"}
  digests: {rollup: sum, unit: "messages", doc: "Messages that gather several, by creation"}
  state: {rollup: none, doc: "closed, or partial while minutes are missing (M-801)"}
  closed_minutes: {rollup: none, unit: "minutes", doc: "Closed minutes in the bucket (M-801)"}
---*/
select
    figure.source_id,
    figure.channel,
    cast(figure.bucket as date) as stat_date,
    figure.created,
    figure.sent,
    figure.abandoned,
    figure.suppressed,
    figure.attempts_ok,
    figure.attempts_failed,
    figure.success_rate,
    figure.latency_n,
    figure.latency_sum_ms,
    figure.avg_latency_ms,
    figure.p95_latency_ms,
    figure.latency_hist,
    figure.repeats,
    figure.resolves,
    figure.tests,
    figure.digests,
    case when figure.closed_minutes = 1440 then 'closed' else 'partial' end as state,
    figure.closed_minutes
from notification_figures($window_start, $window_end, interval 1 day) as figure
