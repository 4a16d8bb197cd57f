"""A local-first coding assistant for every editor that speaks LSP."""

__version__ = "0.1.0"
