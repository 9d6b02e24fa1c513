/*
description: >
  Delivery attempts per channel in the window. Without an attempt log a sent message is one success and attempts − 1
  failures, a failed or abandoned one only failures (M-702), at the instant of its last change.
*/
SELECT
    upper(channel) AS channel,
    count(*) FILTER (WHERE state = 'sent') AS ok,
    coalesce(sum(CASE
        WHEN state = 'sent' THEN greatest(coalesce(attempts, 1) - 1, 0)
        WHEN state IN ('failed', 'abandoned') THEN coalesce(attempts, 1)
        ELSE 0
    END), 0)::BIGINT AS failed
FROM raw.notification
WHERE source_id = $source_id
    AND coalesce(sent_at, changed_at, created_at) >= $window_start::TIMESTAMP
    AND coalesce(sent_at, changed_at, created_at) < $window_end::TIMESTAMP
    AND channel IS NOT NULL
GROUP BY upper(channel)
ORDER BY upper(channel)
