"""Reading what was published, for API, pages, metrics and command line: one question has one answer everywhere (E-131).

What belongs here: questions to the Parquet files of the lake, answered as plain rows. What does not: writing them
(``warehouse.publish``), life-cycle state (``state``), how an answer is wrapped (``api``, ``metrics``, ``cli``).
"""
