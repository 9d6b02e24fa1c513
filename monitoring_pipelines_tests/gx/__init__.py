"""Expectation suites against real Great Expectations and a real warehouse."""
