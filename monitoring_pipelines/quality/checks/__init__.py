"""What the checks compute: functions of a ``CheckContext`` that return a ``CheckOutcome``, one module per subject.

What belongs here: rules C-101 to C-350 over the warehouse. What does not: running and storing them (``quality.runs``).
"""
