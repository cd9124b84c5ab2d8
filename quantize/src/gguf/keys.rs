//! The keys that only fourfold writes: what GGUF has no word for. Whoever does not know them gets what they default to.

/// Greatest absolute gate and up value before the activation (f32). llama.cpp takes 7.
pub const SWIGLU_LIMIT: &str = "fourfold.swiglu_limit";
/// Steepness of the activation's sigmoid (f32). llama.cpp takes 1.702.
pub const SWIGLU_ALPHA: &str = "fourfold.swiglu_alpha";
/// Whether the ends of YaRN's ramp are rounded to whole dimensions (bool). llama.cpp always rounds them.
pub const ROPE_TRUNCATE: &str = "fourfold.rope_truncate";
/// All ids at which the model stops (array of i32); GGUF's own key holds one.
pub const STOP_TOKEN_IDS: &str = "fourfold.stop_token_ids";

/// The longest context, in tokens, that a file may state.
pub const MOST_CONTEXT: u32 = 1 << 24;
