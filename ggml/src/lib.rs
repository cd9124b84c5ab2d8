//! Bindings to ggml for the layers that run on a GPU. Nothing is bound yet: see docs/architecture.md, "Offload".
