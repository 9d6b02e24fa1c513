/*
description: >
  Attempts to deliver of mapped notification tables in the last five minutes, per source and channel (C-350, M-702): a
  sent one is a success and attempts - 1 failures at its sending, one found failed or abandoned is only failures when it
  was found so. Where attempts are not mapped, one is meant.
key: [source_id, channel]
*/
SELECT
    n.source_id,
    upper(n.channel) AS channel,
    count(*) FILTER (WHERE n.state = 'sent') AS ok,
    coalesce(sum(CASE
        WHEN n.state = 'sent' THEN greatest(coalesce(n.attempts, 1) - 1, 0)
        ELSE coalesce(n.attempts, 1)
    END), 0)::BIGINT AS failed
FROM raw.notification AS n
WHERE n.source_id <> '_self'
    AND (
        (n.state = 'sent' AND n.sent_at > $since::TIMESTAMP AND n.sent_at <= $now::TIMESTAMP)
        OR (
            n.state IN ('failed', 'abandoned') AND n.changed_at > $since::TIMESTAMP AND n.changed_at <= $now::TIMESTAMP
            -- The first load of a source finds the failures of its whole history at once: only recent ones happened now.
            AND (n.first_seen_at IS DISTINCT FROM n.changed_at OR n.created_at > $since::TIMESTAMP - INTERVAL 15 MINUTE)
        )
    )
GROUP BY n.source_id, upper(n.channel)
