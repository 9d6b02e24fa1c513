"""Bands, severities and written rates (C-001 to C-003)."""

import pytest

from monitoring_pipelines.severity import (
    BandLimits,
    health_of,
    highest,
    rate_number,
    rate_text,
    severity_of,
    severity_of_word,
)


@pytest.mark.parametrize(
    ("complete", "total", "number", "text", "health", "severity"),
    [
        (40, 40, 100.00, "100.0%", "healthy", None),
        (38, 40, 95.00, "95.0%", "healthy", "low"),
        (37, 40, 92.50, "92.5%", "degraded", "medium"),
        (32, 40, 80.00, "80.0%", "degraded", "medium"),
        (31, 40, 77.50, "77.5%", "unhealthy", "high"),
        (20, 40, 50.00, "50.0%", "unhealthy", "high"),
        (19, 40, 47.50, "47.5%", "unhealthy", "critical"),
        (7599, 8000, 94.99, "95.0%", "degraded", "medium"),
        (31999, 40000, 80.00, "80.0%", "unhealthy", "high"),
    ],
)
def test_bands_are_decided_on_exact_integers_not_on_the_rounded_figure(complete, total, number, text, health, severity):
    assert rate_number(complete, total) == number
    assert rate_text(complete, total) == text
    assert health_of(complete, total) == health
    assert severity_of(complete, total) == severity


def test_nothing_counted_is_unknown_and_no_alert():
    assert (health_of(0, 0), severity_of(0, 0), rate_number(0, 0), rate_text(0, 0)) == ("unknown", None, None, None)


def test_one_changed_threshold_moves_the_band():
    assert health_of(949, 1000, BandLimits(healthy=94.9)) == "healthy"
    assert health_of(948, 1000, BandLimits(healthy=94.9)) == "degraded"


def test_words_of_sources_map_to_the_unified_severities():
    words = ("warning", "WARNING", "ERROR", "URGENT", "CRITICAL", "low")
    assert [severity_of_word(word) for word in words] == ["medium", "medium", "high", "critical", "critical", "low"]
    with pytest.raises(ValueError):
        severity_of_word("fatal-ish")


def test_the_highest_of_several_severities_wins():
    assert highest(["low", None, "high", "medium"]) == "high"
    assert highest([None]) is None
