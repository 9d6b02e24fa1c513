"""What Dagster calls the hours and days of a table.

What belongs here: the names. What does not: the definitions of partitions (``orchestration.partitions``).
"""

from __future__ import annotations

from datetime import date, datetime

HOUR_FORMAT = "%Y-%m-%d-%H:%M"
DAY_FORMAT = "%Y-%m-%d"


def hour_key(hour: datetime) -> str:
    """Partition key of the UTC hour that starts at ``hour``."""
    return hour.strftime(HOUR_FORMAT)


def day_key(day: date) -> str:
    """Partition key of the UTC day."""
    return day.strftime(DAY_FORMAT)
