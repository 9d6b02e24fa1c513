/*
description: >
  Attempts to deliver of mapped notification tables in the last five minutes, per source and channel (C-350, M-702): a
  sent one is a success at its sending, one found failed or abandoned is a failure when it was found so.
key: [source_id, channel]
*/
SELECT
    n.source_id,
    upper(n.channel) AS channel,
    count(*) FILTER (WHERE n.state = 'sent') AS ok,
    count(*) FILTER (WHERE n.state IN ('failed', 'abandoned')) AS failed
FROM raw.notification AS n
WHERE n.source_id <> '_self'
    AND (
        (n.state = 'sent' AND n.sent_at > $since::TIMESTAMP AND n.sent_at <= $now::TIMESTAMP)
        OR (n.state IN ('failed', 'abandoned') AND n.changed_at > $since::TIMESTAMP AND n.changed_at <= $now::TIMESTAMP)
    )
GROUP BY n.source_id, upper(n.channel)
