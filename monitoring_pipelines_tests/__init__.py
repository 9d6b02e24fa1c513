"""Tests of the product, one directory per area; ``support`` holds what they share."""
