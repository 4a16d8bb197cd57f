"""How well the right places are found: docstrings to functions, commit messages to files.

Evaluates the product's own search on public code and its histories. Tunes nothing by itself.
"""
