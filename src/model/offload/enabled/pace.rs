//! Whether the experts of a layer come to the device for a batch, or the batch to the processor: decided by what either
//! took before.
//!
//! Bringing them costs their bytes over the bus, whatever the batch; computing them on the processor costs more with
//! every token. Where the two meet depends on the machine, so nothing is assumed but the bus's rate, measured once.

/// Batches below this are not worth a thought: a processor reads no more experts for them than a bus would carry.
const LEAST: usize = 32;
/// Batches are told apart by their powers of two.
const CLASSES: usize = 16;
/// Decisions until the other way is tried again: machines change their minds, and the first time may have waited for
/// the disk.
const PATIENCE: u32 = 512;

/// What the layers of past passes took.
pub struct Pace {
    /// Bytes per second that the bus carries.
    rate: f64,
    classes: [Class; CLASSES],
}

#[derive(Clone, Copy, Default)]
struct Class {
    /// Seconds that a token's experts took on the processor.
    on_host: Option<f64>,
    /// Seconds that a layer's experts took to come over and be computed.
    brought: Option<f64>,
    /// Decisions in a row for one of the two.
    in_a_row: u32,
    last: bool,
}

impl Pace {
    /// Knows nothing but the bus.
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            classes: [Class::default(); CLASSES],
        }
    }

    /// Whether the experts of a layer, of this many bytes, should come over for these tokens.
    pub fn bring(&mut self, tokens: usize, bytes: u64) -> bool {
        if tokens < LEAST {
            return false;
        }
        let expected = bytes as f64 / self.rate;
        let class = self.class(tokens);
        let Some(on_host) = class.on_host else {
            return false;
        };
        let best = class.brought.unwrap_or(expected) < on_host * tokens as f64;
        if best != class.last {
            (class.last, class.in_a_row) = (best, 0);
        }
        class.in_a_row += 1;
        // What the bus alone forbids is not tried.
        let again = class.in_a_row.is_multiple_of(PATIENCE);
        let hopeless = !best && expected > 2.0 * on_host * tokens as f64;
        best != (again && !hopeless)
    }

    /// What a layer's experts took on the processor.
    pub fn took_on_host(&mut self, tokens: usize, seconds: f64) {
        self.class(tokens).on_host = Some(seconds / tokens.max(1) as f64);
    }

    /// What a layer's experts took to come over and be computed.
    pub fn took_brought(&mut self, tokens: usize, seconds: f64) {
        self.class(tokens).brought = Some(seconds);
    }

    fn class(&mut self, tokens: usize) -> &mut Class {
        let class = tokens.max(1).ilog2() as usize;
        &mut self.classes[class.min(CLASSES - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A bus of 16 GiB/s and a layer of 0.5 GiB: 31 ms.
    fn pace() -> Pace {
        Pace::new(16.0 * GIB as f64)
    }

    #[test]
    fn the_faster_way_is_taken() {
        let mut pace = pace();
        assert!(!pace.bring(512, GIB / 2), "nothing was measured yet");
        pace.took_on_host(512, 0.1);
        pace.took_on_host(64, 0.02);
        assert!(pace.bring(512, GIB / 2) && !pace.bring(64, GIB / 2));
        // A class scales with its tokens: 300 of them would take 59 ms here.
        pace.took_on_host(300, 0.059);
        assert!(pace.bring(300, GIB / 2) && !pace.bring(300, 2 * GIB));
        pace.took_brought(512, 0.2);
        assert!(
            !pace.bring(512, GIB / 2),
            "it was slower than the bus promised"
        );
        assert!(!pace.bring(1, 1), "decoding stays where it is");
    }

    #[test]
    fn the_other_way_is_tried_again_now_and_then() {
        let mut pace = pace();
        pace.took_on_host(512, 0.1);
        let brought = |pace: &mut Pace| {
            (0..2 * PATIENCE)
                .filter(|_| pace.bring(512, GIB / 2))
                .count()
        };
        assert_eq!(brought(&mut pace), 2 * PATIENCE as usize - 2);
        pace.took_brought(512, 0.2);
        assert_eq!(brought(&mut pace), 2);
        // A bus that alone takes twice as long is not tried.
        pace.took_on_host(512, 0.01);
        assert_eq!(brought(&mut pace), 0);
    }
}
