"""Benches: what LOG.md reports. Each merges its keys into bench.json at the root."""
