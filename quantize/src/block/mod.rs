//! Block formats: how 32 or 256 numbers become bytes, and back.
