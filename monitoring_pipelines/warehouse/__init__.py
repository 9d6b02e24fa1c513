"""The DuckDB warehouse: opening it, its tables, refreshing windows, publishing, retention.

What belongs here: everything that reads or writes the warehouse file and its published copies.
What does not: reading sources (``source``) and the SQL of statistics (``dbt_like_sql``).
"""
