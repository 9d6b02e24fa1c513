"""Where lost outputs can be found again: plug-ins, and the order in which they are asked (R-5xx).

What belongs here: the interface, the shipped kinds, entry points. What does not: classes of a plan (``plan``).
"""
