/*
description: >
  Per source and kind the anomalies first seen in the last hour, and how many rows of their entity were first seen in it
  (C-511).
key: [source_id, kind, entity]
*/
SELECT
    a.source_id,
    a.kind,
    a.entity,
    sum(a.count)::BIGINT AS n
FROM raw.anomaly AS a
WHERE a.first_seen_at > $since::TIMESTAMP AND a.first_seen_at <= $now::TIMESTAMP
GROUP BY a.source_id, a.kind, a.entity
