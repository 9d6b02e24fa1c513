"""The identity of an output: natural key and canonical link (R-201, R-202)."""

from __future__ import annotations

import duckdb
import pytest

from monitoring_pipelines.natural_key import canonical_uri, natural_key
from monitoring_pipelines.source.convert import register_identity

LINK = "HTTPS://Cdn.Example.com:443/out/7/cat%201.png?sig=zz#top"


def test_worked_example_of_the_repair_rules() -> None:
    """R-201, R-202: task-7, node 12, a signed link."""
    canonical = canonical_uri(LINK)
    assert canonical == "https://cdn.example.com/out/7/cat%201.png"
    assert natural_key("task-7", "12", canonical) == "39950c66e5384dfa375d2c117323d185d252105b6d1acd320965ba8d385a82da"
    assert natural_key("task-7", None, canonical).startswith("1a0ca47d")


def test_rows_read_into_the_store_and_proposed_rows_share_the_function() -> None:
    """R-201: the SQL function used while reading is the same code, with the configured parameters kept (R-202)."""
    with duckdb.connect() as con:
        register_identity(con, {"x.com": ["id"]})
        row = con.execute(
            "SELECT mp_canonical_uri(?), mp_canonical_uri(?)", [LINK, "http://x.com/a?id=1&s=2"]
        ).fetchone()
    assert row == (canonical_uri(LINK), "http://x.com/a?id=1")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://CDN.x.com/a.png?sig=1", "https://cdn.x.com/a.png?sig=2#top"),
        ("http://x.com:80/a%2db", "http://x.com/a-b"),
        ("https://x.com/%e4%bd%a0", "https://x.com/%E4%BD%A0"),
    ],
)
def test_links_to_one_file_are_one_output(first: str, second: str) -> None:
    """R-201, R-202."""
    assert natural_key("t", None, canonical_uri(first)) == natural_key("t", "", canonical_uri(second))


def test_other_uris_and_named_parameters_are_kept() -> None:
    """R-202."""
    assert canonical_uri("oss://Bucket/A?b=1") == "oss://Bucket/A?b=1"
    assert canonical_uri("http://x.com/a?id=1&s=2", {"x.com": ["id"]}) == "http://x.com/a?id=1"
