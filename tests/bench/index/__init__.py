"""How fast, how small and how right the index is, on public code.

Drives the product from outside: an index is opened, asked and killed as the server would.
"""
