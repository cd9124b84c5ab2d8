//! The file read into memory while nobody waits for it yet.

use super::memory;
use fourfold_quantize::gguf::Gguf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Bytes between looks at whether to stop.
const PIECE: usize = 16 << 20;

/// A thread that asks the system for one piece of the file after the other. Dropping this ends it.
///
/// On two cores 12 GB came from the disk in 6 seconds. A prompt that does not wait for it is read no faster, in 14 to 17 seconds: what
/// the system does to bring a page in takes the workers' time, whoever asks.
pub(super) struct Preload {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Preload {
    /// Starts, unless the file would push other things out of memory.
    pub fn start(file: Arc<Gguf>) -> Option<Self> {
        let bytes: u64 = file.parts().map(|(_, bytes)| bytes).sum();
        if bytes > memory::available()? {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let ask = move || {
            let mut tensors: Vec<_> = file.infos().collect();
            tensors.sort_by_key(|tensor| (tensor.part, tensor.offset));
            let bytes = tensors.iter().map(|tensor| tensor.bytes);
            let mut pieces = bytes.flat_map(|bytes| bytes.chunks(PIECE));
            while let Some(piece) = pieces.next().filter(|_| !stopped.load(Relaxed)) {
                memory::read_ahead(piece);
            }
        };
        let builder = std::thread::Builder::new().name("read ahead".into());
        // Without a thread everything works as well, only later.
        let thread = builder.spawn(ask).ok();
        Some(Self { stop, thread })
    }
}

impl Drop for Preload {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // So that the file is closed when the model is. It cannot panic, and nothing is lost if it did.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Logits, Model};

    #[test]
    fn a_model_that_is_read_ahead_computes_and_closes() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny/tiny.gguf");
        let mut model = Model::open(file).unwrap();
        model.read_ahead();
        assert!(model.preload.is_some() || cfg!(not(target_os = "linux")));
        let mut logits = Logits::default();
        let mut sequence = model.new_sequence();
        let batch = Batch::continuing(0, &[1, 2, 3]);
        model
            .forward(&batch, &mut [&mut sequence], &mut logits)
            .unwrap();
        assert_eq!(logits.rows(), 1);
        // Again while the first is under way, and gone before it ends.
        model.read_ahead();
        drop(model);
    }
}
