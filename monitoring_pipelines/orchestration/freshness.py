"""How old an asset may get before Dagster shows it as stale.

What belongs here: the freshness policies, one per cadence.
What does not: alerts on data lag (they follow ``as_of`` of the source, not Dagster's events).
"""

from __future__ import annotations

from datetime import timedelta

from dagster import FreshnessPolicy

#: Filled by the minute tick. A few missed ticks are normal (restart, a slow source).
EVERY_MINUTE = FreshnessPolicy.time_window(fail_window=timedelta(minutes=15), warn_window=timedelta(minutes=5))
#: Reported by the hourly job; of minutes also by the tick while there are inputs.
EVERY_HOUR = FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(hours=2))
#: Yesterday's partition follows the close of its last hour by minutes; 06:00 UTC leaves room for a late source.
EVERY_DAY = FreshnessPolicy.cron(deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=6), timezone="UTC")
