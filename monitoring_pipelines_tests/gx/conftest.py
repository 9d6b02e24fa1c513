"""The warehouse of the check tests."""

from monitoring_pipelines_tests.quality.conftest import store

__all__ = ["store"]
