"""The commands of `lsp-assist`."""
