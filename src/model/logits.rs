//! What a forward pass gives: a number for each entry of the vocabulary.

/// Logits of the rows that were asked for, in the order of the batch.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    vocabulary: usize,
    values: Vec<f32>,
}

impl Logits {
    /// Logits of one token, from elsewhere.
    pub fn from_row(values: Vec<f32>) -> Self {
        let vocabulary = values.len();
        Self { vocabulary, values }
    }

    /// Forgets all rows.
    pub(super) fn restart(&mut self, vocabulary: usize) {
        self.vocabulary = vocabulary;
        self.values.clear();
    }

    /// Room for more numbers.
    pub(super) fn more(&mut self, numbers: usize) -> &mut [f32] {
        let start = self.values.len();
        self.values.resize(start + numbers, 0.0);
        &mut self.values[start..]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.vocabulary).unwrap_or(0)
    }

    /// Logits of one of the tokens that asked for them.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.vocabulary..(row + 1) * self.vocabulary]
    }

    /// The same, to be changed in place by a sampler.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.vocabulary..(row + 1) * self.vocabulary]
    }

    /// Logits of the last token that asked for them, or nothing.
    pub fn last(&self) -> &[f32] {
        &self.values[self.values.len().saturating_sub(self.vocabulary)..]
    }
}
