"""llama.cpp: models from GGUF files on the user's own machine, in a process of their own."""
