/*---
description: >-
  One row per process and UTC minute, from its first sample until a day after its last (M-315 as for samples of workers).
grain: minute
key: [source_id, process_id, stat_minute]
family: resource
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  process_id: {doc: "Process, or `host`"}
  stat_minute: {doc: "Start of the UTC minute (M-101)"}
  rss_bytes_n: {rollup: sum, unit: "samples", doc: "Samples with resident memory"}
  rss_bytes_sum: {rollup: sum, unit: "bytes", doc: "Sum of these samples"}
  avg_rss_bytes: {rollup: derived, unit: "bytes", doc: "rss_bytes_sum / rss_bytes_n"}
  min_rss_bytes: {rollup: min, unit: "bytes", doc: "Smallest sample"}
  max_rss_bytes: {rollup: max, unit: "bytes", doc: "Largest sample"}
  last_rss_bytes: {rollup: last, unit: "bytes", doc: "Newest sample"}
  vms_bytes_n: {rollup: sum, unit: "samples", doc: "Samples with virtual memory"}
  vms_bytes_sum: {rollup: sum, unit: "bytes", doc: "Sum of these samples"}
  avg_vms_bytes: {rollup: derived, unit: "bytes", doc: "vms_bytes_sum / vms_bytes_n"}
  min_vms_bytes: {rollup: min, unit: "bytes", doc: "Smallest sample"}
  max_vms_bytes: {rollup: max, unit: "bytes", doc: "Largest sample"}
  last_vms_bytes: {rollup: last, unit: "bytes", doc: "Newest sample"}
  mem_pct_n: {rollup: sum, unit: "samples", doc: "Samples with share of the host memory"}
  mem_pct_sum: {rollup: sum, unit: "percent", doc: "Sum of these samples"}
  avg_mem_pct: {rollup: derived, unit: "percent", doc: "mem_pct_sum / mem_pct_n"}
  min_mem_pct: {rollup: min, unit: "percent", doc: "Smallest sample"}
  max_mem_pct: {rollup: max, unit: "percent", doc: "Largest sample"}
  last_mem_pct: {rollup: last, unit: "percent", doc: "Newest sample"}
  cpu_pct_n: {rollup: sum, unit: "samples", doc: "Samples with CPU use"}
  cpu_pct_sum: {rollup: sum, unit: "percent", doc: "Sum of these samples"}
  avg_cpu_pct: {rollup: derived, unit: "percent", doc: "cpu_pct_sum / cpu_pct_n"}
  min_cpu_pct: {rollup: min, unit: "percent", doc: "Smallest sample"}
  max_cpu_pct: {rollup: max, unit: "percent", doc: "Largest sample"}
  last_cpu_pct: {rollup: last, unit: "percent", doc: "Newest sample"}
  objects_n: {rollup: sum, unit: "samples", doc: "Samples with live objects"}
  objects_sum: {rollup: sum, unit: "objects", doc: "Sum of these samples"}
  avg_objects: {rollup: derived, unit: "objects", doc: "objects_sum / objects_n"}
  min_objects: {rollup: min, unit: "objects", doc: "Smallest sample"}
  max_objects: {rollup: max, unit: "objects", doc: "Largest sample"}
  last_objects: {rollup: last, unit: "objects", doc: "Newest sample"}
  fds_n: {rollup: sum, unit: "samples", doc: "Samples with open descriptors"}
  fds_sum: {rollup: sum, unit: "descriptors", doc: "Sum of these samples"}
  avg_fds: {rollup: derived, unit: "descriptors", doc: "fds_sum / fds_n"}
  min_fds: {rollup: min, unit: "descriptors", doc: "Smallest sample"}
  max_fds: {rollup: max, unit: "descriptors", doc: "Largest sample"}
  last_fds: {rollup: last, unit: "descriptors", doc: "Newest sample"}
  conns_n: {rollup: sum, unit: "samples", doc: "Samples with connections"}
  conns_sum: {rollup: sum, unit: "connections", doc: "Sum of these samples"}
  avg_conns: {rollup: derived, unit: "connections", doc: "conns_sum / conns_n"}
  min_conns: {rollup: min, unit: "connections", doc: "Smallest sample"}
  max_conns: {rollup: max, unit: "connections", doc: "Largest sample"}
  last_conns: {rollup: last, unit: "connections", doc: "Newest sample"}
  threads_n: {rollup: sum, unit: "samples", doc: "Samples with threads"}
  threads_sum: {rollup: sum, unit: "threads", doc: "Sum of these samples"}
  avg_threads: {rollup: derived, unit: "threads", doc: "threads_sum / threads_n"}
  min_threads: {rollup: min, unit: "threads", doc: "Smallest sample"}
  max_threads: {rollup: max, unit: "threads", doc: "Largest sample"}
  last_threads: {rollup: last, unit: "threads", doc: "Newest sample"}
  fd_usage_pct_n: {rollup: sum, unit: "samples", doc: "Samples with descriptors in use of those allowed"}
  fd_usage_pct_sum: {rollup: sum, unit: "percent", doc: "Sum of these samples"}
  avg_fd_usage_pct: {rollup: derived, unit: "percent", doc: "fd_usage_pct_sum / fd_usage_pct_n"}
  min_fd_usage_pct: {rollup: min, unit: "percent", doc: "Smallest sample"}
  max_fd_usage_pct: {rollup: max, unit: "percent", doc: "Largest sample"}
  last_fd_usage_pct: {rollup: last, unit: "percent", doc: "Newest sample"}
  load_ratio_n: {rollup: sum, unit: "samples", doc: "Samples with load of the last minute per core"}
  load_ratio_sum: {rollup: sum, unit: "ratio", doc: "Sum of these samples"}
  avg_load_ratio: {rollup: derived, unit: "ratio", doc: "load_ratio_sum / load_ratio_n"}
  min_load_ratio: {rollup: min, unit: "ratio", doc: "Smallest sample"}
  max_load_ratio: {rollup: max, unit: "ratio", doc: "Largest sample"}
  last_load_ratio: {rollup: last, unit: "ratio", doc: "Newest sample"}
  max_conns_by_state: {rollup: max, unit: "map", doc: "Largest count of connections per TCP state"}
  restarts: {rollup: sum, unit: "restarts", doc: "Samples whose uptime is smaller than that of the sample before"}
  samples_expected: {rollup: sum, unit: "samples", doc: "Sampling intervals that begin in the bucket"}
  samples_received: {rollup: sum, unit: "samples", doc: "Samples of the bucket"}
  state: {rollup: none, doc: "closed, or partial while minutes are missing (M-801)"}
  closed_minutes: {rollup: none, unit: "minutes", doc: "Closed minutes in the bucket (M-801)"}
---*/
select
    figure.source_id,
    figure.process_id,
    figure.bucket as stat_minute,
    figure.rss_bytes_n,
    figure.rss_bytes_sum,
    figure.avg_rss_bytes,
    figure.min_rss_bytes,
    figure.max_rss_bytes,
    figure.last_rss_bytes,
    figure.vms_bytes_n,
    figure.vms_bytes_sum,
    figure.avg_vms_bytes,
    figure.min_vms_bytes,
    figure.max_vms_bytes,
    figure.last_vms_bytes,
    figure.mem_pct_n,
    figure.mem_pct_sum,
    figure.avg_mem_pct,
    figure.min_mem_pct,
    figure.max_mem_pct,
    figure.last_mem_pct,
    figure.cpu_pct_n,
    figure.cpu_pct_sum,
    figure.avg_cpu_pct,
    figure.min_cpu_pct,
    figure.max_cpu_pct,
    figure.last_cpu_pct,
    figure.objects_n,
    figure.objects_sum,
    figure.avg_objects,
    figure.min_objects,
    figure.max_objects,
    figure.last_objects,
    figure.fds_n,
    figure.fds_sum,
    figure.avg_fds,
    figure.min_fds,
    figure.max_fds,
    figure.last_fds,
    figure.conns_n,
    figure.conns_sum,
    figure.avg_conns,
    figure.min_conns,
    figure.max_conns,
    figure.last_conns,
    figure.threads_n,
    figure.threads_sum,
    figure.avg_threads,
    figure.min_threads,
    figure.max_threads,
    figure.last_threads,
    figure.fd_usage_pct_n,
    figure.fd_usage_pct_sum,
    figure.avg_fd_usage_pct,
    figure.min_fd_usage_pct,
    figure.max_fd_usage_pct,
    figure.last_fd_usage_pct,
    figure.load_ratio_n,
    figure.load_ratio_sum,
    figure.avg_load_ratio,
    figure.min_load_ratio,
    figure.max_load_ratio,
    figure.last_load_ratio,
    figure.max_conns_by_state,
    figure.restarts,
    figure.samples_expected,
    figure.samples_received,
    case when figure.closed_minutes = 1 then 'closed' else 'partial' end as state,
    figure.closed_minutes
from resource_figures($window_start, $window_end, interval 1 minute) as figure
