//! The random numbers behind sampling: SplitMix64, whose whole state is one counter.
//!
//! A counter makes reproducibility simple: a saved session stores eight bytes, and undoing a turn
//! puts the counter back. The generator passes BigCrush, far more than picking tokens asks for.

/// A reproducible stream of random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    counter: u64,
}

/// 2^64 divided by the golden ratio, made odd: the step that visits every counter value once.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { counter: seed }
    }

    /// A seed from the clock, for people who did not ask for one.
    pub fn seed_from_clock() -> u64 {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos() as u64);
        // The process id separates programs started within one tick. Half the bits are dropped so
        // that the seed is short enough to type.
        mix(since_epoch ^ (u64::from(std::process::id()) << 32)) >> 32
    }

    /// The state to store and to give back to [`Random::new`].
    pub fn state(&self) -> u64 {
        self.counter
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(STEP);
        mix(self.counter)
    }

    /// A number in [0, 1), one of 2^53 equally likely values.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// The SplitMix64 finalizer.
fn mix(counter: u64) -> u64 {
    let z = (counter ^ (counter >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_numbers_equal_the_published_ones() {
        // The reference sequence of SplitMix64 for seed 1234567.
        let mut random = Random::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(
            got,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn a_stored_state_continues_the_stream() {
        let mut random = Random::new(9);
        random.bits();
        let mut restored = Random::new(random.state());
        assert_eq!(random.bits(), restored.bits());
    }

    #[test]
    fn unit_fills_the_interval_evenly() {
        let mut random = Random::new(5);
        let mut bins = [0u32; 16];
        for _ in 0..160_000 {
            bins[(random.unit() * 16.0) as usize] += 1;
        }
        // 10,000 expected in each; 500 is more than five deviations.
        assert!(
            bins.iter().all(|&count| count.abs_diff(10_000) < 500),
            "{bins:?}"
        );
    }
}
