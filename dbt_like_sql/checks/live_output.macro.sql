/*
The outputs of a source that exist and were created since an instant, or at an unknown time. in_future: after $latest, as
if it did not exist yet (E-306); counts: it completes its task (C-101: valid, no placeholder); own: the application wrote
it itself (C-104). Outputs that the source's retention removed go on existing (E-610). The two halves of the union are one
condition that would keep storage from being skipped.
*/
CREATE OR REPLACE TEMP MACRO live_output(source, since, latest) AS TABLE
SELECT
    o.output_key, o.task_key, o.task_hash, o.created_at, o.natural_key, o.origin, o.valid,
    o.created_at > latest AS in_future,
    o.valid AND o.origin <> 'placeholder' AND o.created_at <= latest AS counts,
    o.valid AND o.origin NOT IN ('placeholder', 'repair') AND o.created_at <= latest AS own
FROM raw.task_output AS o
WHERE o.source_id = source AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    AND o.created_at >= since
UNION ALL
SELECT
    o.output_key, o.task_key, o.task_hash, o.created_at, o.natural_key, o.origin, o.valid,
    FALSE AS in_future,
    o.valid AND o.origin <> 'placeholder' AS counts,
    o.valid AND o.origin NOT IN ('placeholder', 'repair') AS own
FROM raw.task_output AS o
WHERE o.source_id = source AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    AND o.created_at IS NULL
