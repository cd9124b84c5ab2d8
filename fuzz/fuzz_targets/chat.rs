//! Any bytes at all as a chat request: refused in one sentence, or rendered, schemas and all.
#![no_main]

use fourfold::harmony::{Effort, Opening, chat, to_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = std::str::from_utf8(bytes) else {
        return;
    };
    match chat::Request::parse(json) {
        Err(error) => assert!(!error.to_string().contains('\n')),
        Ok(request) => {
            let text = to_text(&request.conversation(None, Effort::Low), &request.opening);
            assert!(text.ends_with(match request.opening {
                Opening::Call(_) => "<|message|>",
                _ => "<|start|>assistant",
            }));
            // References can repeat a schema, but only so often.
            assert!(
                text.len() < 64 << 20,
                "{} bytes from {}",
                text.len(),
                json.len()
            );
        }
    }
});
