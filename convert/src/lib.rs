//! A Hugging Face checkpoint of gpt-oss becomes one GGUF file.
