"""The assets, one module per layer: raw, core, mart, audit.

What belongs here: asset definitions, named like the table they fill (``layer/table``).
What does not: how a table is filled (``pipeline``) and what it means (the front matter of its SQL file).
"""
