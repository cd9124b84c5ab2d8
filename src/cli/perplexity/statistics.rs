//! Probabilities out of logits, and what many numbers come to.

/// The logarithm of the sum of what these are logarithms of.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - highest).exp())
        .sum();
    highest + sum.ln()
}

/// The logarithm of a token's probability.
pub fn log_softmax(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// The likeliest token; of several the first.
pub fn highest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}

/// The mean of independent numbers and its standard error.
pub struct Mean {
    pub mean: f64,
    pub error: f64,
    pub count: usize,
}

impl Mean {
    /// Of at least one number.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / (count.max(2) - 1) as f64 / count as f64).sqrt();
        Self { mean, error, count }
    }
}

/// The value that a share of the sorted values does not exceed.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let sum: f64 = [1f64, 3.0, 2.0, 3.0].iter().map(|x| x.exp()).sum();
        assert!((log_softmax(&logits, 2) - (2.0 - sum.ln())).abs() < 1e-12);
        assert_eq!(highest(&logits), Some(1));
    }

    #[test]
    fn quantiles_are_values_of_the_list() {
        let sorted: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(quantile(&sorted, 0.999), 999.0);
        assert_eq!(quantile(&sorted[..10], 0.999), 10.0);
        let mean = Mean::of(&[1.0, 3.0]);
        assert_eq!((mean.mean, mean.error, mean.count), (2.0, 1.0, 2));
    }
}
