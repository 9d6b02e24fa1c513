"""Reading the monitored platform's database: connection, SELECT, conversion, tail, reconciliation.

What belongs here: everything between the source server and typed rows of the unified entities.
What does not: storing rows (``warehouse.ingest``), statistics (SQL models), scheduling (``orchestration``).
"""
