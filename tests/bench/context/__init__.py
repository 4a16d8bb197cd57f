"""`make bench-context`: what the context of a question costs and saves."""
