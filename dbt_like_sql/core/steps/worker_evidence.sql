/*---
description: All stored evidence of the claimed workers, after new evidence was merged in.
---*/
select known.*
from core.worker_evidence as known
inner join claim_worker on known.source_id = claim_worker.source_id and known.worker_key = claim_worker.worker_key
