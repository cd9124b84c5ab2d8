//! The pass over the whole vocabulary: maximum, sum of exponentials, and the draw.
//!
//! gpt-oss has 201,088 logits, so anything that sorts or copies them costs more than a layer. The
//! logits are read once in chunks that stay in the first-level cache; each chunk keeps its own
//! maximum and its own sum relative to that maximum, so no earlier pass for the global maximum is
//! needed. The draw then picks a chunk by its weight and recomputes only that chunk.
//!
//! Every instruction set gives the same bits: sums run in [`LANES`] fixed lanes, the exponential is
//! plain multiplications and additions, and the compiler may neither fuse nor reorder them.

/// Logits per chunk: 1 KB, small enough that a threshold on chunk maxima skips nearly all of a
/// peaked distribution.
pub(super) const CHUNK: usize = 256;

/// Partial sums kept side by side; two AVX2 registers.
const LANES: usize = 16;

/// What one chunk of the vocabulary contributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chunk {
    /// The largest logit, or minus infinity when the constraint forbids the whole chunk.
    pub maximum: f32,
    /// Sum of `exp((logit - maximum) / temperature)`.
    pub sum: f32,
}

/// The vocabulary seen chunk by chunk.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub chunks: Vec<Chunk>,
    /// The largest logit of all.
    pub maximum: f32,
    /// Sum of `exp((logit - maximum) / temperature)` over the vocabulary.
    pub total: f64,
    inverse_temperature: f32,
}

impl Summary {
    /// Reads every logit once. False when one is NaN or plus infinity, or all are minus infinity.
    #[must_use]
    pub fn read(&mut self, logits: &[f32], temperature: f32) -> bool {
        let inverse_temperature = 1.0 / temperature;
        self.chunks.clear();
        let mut summarize = Summarize {
            inverse_temperature,
            chunks: &mut self.chunks,
            has_nan: false,
        };
        each_chunk(logits, &mut summarize);
        let has_nan = summarize.has_nan;
        self.inverse_temperature = inverse_temperature;
        self.maximum = self
            .chunks
            .iter()
            .fold(f32::NEG_INFINITY, |best, chunk| best.max(chunk.maximum));
        self.total = self.chunks.iter().map(|chunk| self.weight(chunk)).sum();
        !has_nan && self.maximum.is_finite()
    }

    /// A chunk's share of `total`.
    fn weight(&self, chunk: &Chunk) -> f64 {
        f64::from(chunk.sum) * f64::from(self.probability(chunk.maximum))
    }

    /// `exp((logit - maximum) / temperature)`: a token's probability before division by `total`.
    pub fn probability(&self, logit: f32) -> f32 {
        exp_negative((logit - self.maximum) * self.inverse_temperature)
    }

    /// The first token with the largest logit.
    pub fn largest(&self, logits: &[f32]) -> u32 {
        let chunk = self
            .chunks
            .iter()
            .position(|chunk| chunk.maximum == self.maximum)
            .unwrap_or(0);
        let start = chunk * CHUNK;
        let within = logits[start..]
            .iter()
            .position(|&logit| logit == self.maximum)
            .unwrap_or(0);
        (start + within) as u32
    }

    /// The token at the fraction `unit` (in [0, 1)) of the cumulative distribution, in id order.
    pub fn draw(&self, logits: &[f32], unit: f64) -> u32 {
        let mut target = unit * self.total;
        let mut chosen = None;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let weight = self.weight(chunk);
            if weight == 0.0 {
                continue;
            }
            // Rounding may leave a sliver after the last chunk: it belongs to that chunk.
            chosen = Some((index, target.min(weight)));
            if target < weight {
                break;
            }
            target -= weight;
        }
        let Some((index, target)) = chosen else {
            return self.largest(logits);
        };
        let start = index * CHUNK;
        let end = (start + CHUNK).min(logits.len());
        let mut running = 0.0;
        let mut last = start;
        for (offset, &logit) in logits[start..end].iter().enumerate() {
            let probability = f64::from(self.probability(logit));
            if probability > 0.0 {
                running += probability;
                last = start + offset;
                if running > target {
                    break;
                }
            }
        }
        last as u32
    }
}

/// Work on 256 logits at a time.
pub(super) trait Visit {
    fn visit(&mut self, logits: &[f32; CHUNK]);
}

/// Shows all chunks, the last one filled up with minus infinity, compiled for the widest instructions that this CPU has.
pub(super) fn each_chunk(logits: &[f32], visit: &mut impl Visit) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected on the line above.
        return unsafe { each_chunk_avx2(logits, visit) };
    }
    each_chunk_plain(logits, visit);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn each_chunk_avx2(logits: &[f32], visit: &mut impl Visit) {
    each_chunk_plain(logits, visit);
}

#[inline(always)]
fn each_chunk_plain(logits: &[f32], visit: &mut impl Visit) {
    let (whole, rest) = logits.as_chunks::<CHUNK>();
    for chunk in whole {
        visit.visit(chunk);
    }
    if !rest.is_empty() {
        let mut padded = [f32::NEG_INFINITY; CHUNK];
        padded[..rest.len()].copy_from_slice(rest);
        visit.visit(&padded);
    }
}

/// Makes a [`Chunk`] of every 256 logits, and notices when one is NaN.
struct Summarize<'s> {
    inverse_temperature: f32,
    chunks: &'s mut Vec<Chunk>,
    has_nan: bool,
}

impl Visit for Summarize<'_> {
    #[inline(always)]
    fn visit(&mut self, logits: &[f32; CHUNK]) {
        let (chunk, nan) = summarize_chunk(logits, self.inverse_temperature);
        self.chunks.push(chunk);
        self.has_nan |= nan;
    }
}

#[inline(always)]
fn summarize_chunk(logits: &[f32; CHUNK], inverse_temperature: f32) -> (Chunk, bool) {
    let (groups, _) = logits.as_chunks::<LANES>();
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let mut nans = [false; LANES];
    for group in groups {
        for lane in 0..LANES {
            let logit = group[lane];
            nans[lane] |= logit.is_nan();
            maxima[lane] = if logit > maxima[lane] {
                logit
            } else {
                maxima[lane]
            };
        }
    }
    let maximum = maxima.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let nan = nans.contains(&true);
    if !maximum.is_finite() {
        return (Chunk { maximum, sum: 0.0 }, nan);
    }
    let mut sums = [0.0f32; LANES];
    for group in groups {
        for lane in 0..LANES {
            sums[lane] += exp_negative((group[lane] - maximum) * inverse_temperature);
        }
    }
    let sum = sums.iter().sum();
    (Chunk { maximum, sum }, nan)
}

/// `exp(x)` for `x <= 0`, exactly zero below -87 where results would leave the normal range.
///
/// Relative error below 2e-7. Written without calls and without branches, so that loops over it
/// vectorize; `f32::exp` is a library call and made the pass nine times slower.
#[inline(always)]
pub(super) fn exp_negative(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    // Taylor to the sixth power: |rest| <= ln(2)/2 keeps the error under half a unit in the last place.
    let mut power = 1.0 / 720.0;
    power = power * rest + 1.0 / 120.0;
    power = power * rest + 1.0 / 24.0;
    power = power * rest + 1.0 / 6.0;
    power = power * rest + 0.5;
    power = power * rest + 1.0;
    power = power * rest + 1.0;
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { power * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: u64) -> Vec<f32> {
        let mut random = crate::sample::Random::new(seed);
        (0..length)
            .map(|_| (random.unit() * 30.0 - 20.0) as f32)
            .collect()
    }

    #[test]
    fn exponential_is_accurate_and_ends_at_zero() {
        for step in 0..=870_000 {
            let x = -(step as f32) * 1e-4;
            let wanted = f64::from(x).exp();
            let error = (f64::from(exp_negative(x)) / wanted - 1.0).abs();
            assert!(error < 3e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(exp_negative(0.0), 1.0);
        assert_eq!(exp_negative(-87.5), 0.0);
        assert_eq!(exp_negative(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn total_equals_double_precision() {
        for length in [1, 15, 16, 255, 256, 257, 4096, 201_088] {
            for temperature in [0.3, 1.0, 2.5] {
                let logits = noise(length, 3);
                let mut summary = Summary::default();
                assert!(summary.read(&logits, temperature));
                let maximum = logits.iter().copied().fold(f32::MIN, f32::max);
                assert_eq!(summary.maximum, maximum);
                let wanted: f64 = logits
                    .iter()
                    .map(|&x| ((f64::from(x) - f64::from(maximum)) / f64::from(temperature)).exp())
                    .sum();
                let error = (summary.total / wanted - 1.0).abs();
                assert!(error < 1e-6, "{length} logits: relative error {error}");
            }
        }
    }

    #[test]
    fn instruction_sets_agree_bit_for_bit() {
        let logits = noise(5000, 11);
        let (mut fast, mut plain) = (Vec::new(), Vec::new());
        let summarize = |chunks| Summarize {
            inverse_temperature: 0.7,
            chunks,
            has_nan: false,
        };
        each_chunk(&logits, &mut summarize(&mut fast));
        each_chunk_plain(&logits, &mut summarize(&mut plain));
        assert_eq!(fast, plain);
    }

    #[test]
    fn numbers_that_are_no_logits_are_noticed() {
        let mut summary = Summary::default();
        for position in [0, 17, 300, 999] {
            let mut logits = noise(1000, 4);
            logits[position] = f32::NAN;
            assert!(!summary.read(&logits, 1.0));
            logits[position] = f32::INFINITY;
            assert!(!summary.read(&logits, 1.0));
        }
        assert!(!summary.read(&[f32::NEG_INFINITY; 600], 1.0));
        assert!(!summary.read(&[], 1.0));
    }

    #[test]
    fn draws_walk_the_cumulative_distribution() {
        // Probabilities 0, 1/2, 0, 1/4, 1/4 spread over chunks with forbidden tokens between.
        let mut logits = vec![f32::NEG_INFINITY; 1000];
        logits[5] = 2.0f32.ln();
        logits[700] = 0.0;
        logits[999] = 0.0;
        let mut summary = Summary::default();
        assert!(summary.read(&logits, 1.0));
        let at = |unit| summary.draw(&logits, unit);
        assert_eq!([at(0.0), at(0.25), at(0.499)], [5, 5, 5]);
        assert_eq!([at(0.501), at(0.749)], [700, 700]);
        assert_eq!([at(0.751), at(0.999_999_999)], [999, 999]);
        assert_eq!(summary.largest(&logits), 5);
    }
}
