/*
description: >
  An instant before which none of the tasks that end in the window, by their row or by what decided them, was created;
  their outputs are not older by more than a clock's error.
*/
SELECT least(
    (
        SELECT min(t.created_at) FROM raw.task AS t
        WHERE t.source_id = $source_id AND t.effective_end >= $window_start::TIMESTAMP AND t.effective_end < $window_end::TIMESTAMP
    ),
    (
        SELECT least(min(s.created_at), min(s.row_created_at)) FROM core.task_status AS s
        WHERE s.source_id = $source_id AND s.ended_at >= $window_start::TIMESTAMP AND s.ended_at < $window_end::TIMESTAMP
    )
) AS created_at
