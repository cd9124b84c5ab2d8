//! The GGUF container: reading from a map, writing, splitting.
