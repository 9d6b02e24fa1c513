"""Helpers shared by tests: servers, proxies, sample platforms. No assertions about the product live here."""
