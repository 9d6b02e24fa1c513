"""Repair of lost outputs: plan, approve, apply, verify, roll back (R-xxx).

What belongs here: everything that proposes, writes, proves or undoes rows in a user's output table. Only ``apply``,
``rollback`` and ``journal`` contain statements that write there. What does not: finding what is missing (``quality``),
alert life cycle (``alerts``), Dagster (``orchestration``).
"""
