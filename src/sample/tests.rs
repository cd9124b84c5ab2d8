//! The chain as a whole: distributions, seeds, edges, cost.

use super::*;

fn sampler(settings: Settings, seed: u64) -> Sampler {
    Sampler::new(settings, seed).unwrap()
}

/// Counts of `draws` draws from the same logits.
fn histogram(settings: Settings, logits: &[f32], draws: usize) -> Vec<f64> {
    let mut sampler = sampler(settings, 77);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..draws {
        let token = sampler.sample(&mut logits.to_vec()).unwrap();
        counts[token as usize] += 1.0;
    }
    counts
}

/// Pearson's statistic of `counts` against `weights`; impossible tokens must not occur.
fn chi_square(counts: &[f64], weights: &[f64]) -> f64 {
    let draws: f64 = counts.iter().sum();
    let total: f64 = weights.iter().sum();
    let terms = counts.iter().zip(weights).map(|(count, weight)| {
        let expected = draws * weight / total;
        if expected == 0.0 {
            assert_eq!(*count, 0.0);
            return 0.0;
        }
        (count - expected).powi(2) / expected
    });
    terms.sum()
}

/// Logits of 20 tokens, spread over three chunks with forbidden tokens between them.
fn spread() -> (Vec<f32>, Vec<f64>) {
    let mut logits = vec![f32::NEG_INFINITY; 600];
    let mut weights = vec![0.0; 600];
    for step in 0..20 {
        let position = step * 31;
        logits[position] = (step * 7 % 20) as f32 * 0.2 - 5.0;
        weights[position] = f64::from(logits[position]).exp();
    }
    (logits, weights)
}

#[test]
fn draws_follow_the_distribution() {
    let (logits, weights) = spread();
    let counts = histogram(Settings::default(), &logits, 50_000);
    // 19 degrees of freedom: 43.8 is exceeded once in a thousand seeds.
    assert!(chi_square(&counts, &weights) < 43.8);
}

#[test]
fn temperature_raises_probabilities_to_its_inverse() {
    let (logits, weights) = spread();
    for temperature in [0.5, 2.0] {
        let settings = Settings {
            temperature,
            ..Settings::default()
        };
        let weights: Vec<f64> = weights
            .iter()
            .map(|weight| weight.powf(1.0 / f64::from(temperature)))
            .collect();
        let counts = histogram(settings, &logits, 50_000);
        assert!(chi_square(&counts, &weights) < 43.8);
    }
}

#[test]
fn truncated_draws_follow_the_renormalized_distribution() {
    let (logits, mut weights) = spread();
    let settings = Settings {
        top_k: 8,
        temperature: 0.8,
        ..Settings::default()
    };
    let mut sorted = weights.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    for weight in &mut weights {
        *weight = if *weight >= sorted[7] {
            weight.powf(1.25)
        } else {
            0.0
        };
    }
    let counts = histogram(settings, &logits, 50_000);
    // 7 degrees of freedom.
    assert!(chi_square(&counts, &weights) < 24.4);
}

#[test]
fn temperature_zero_takes_the_first_of_the_likeliest() {
    let settings = Settings {
        temperature: 0.0,
        ..Settings::default()
    };
    let mut sampler = sampler(settings, 0);
    let mut logits = vec![0.5; 3000];
    logits[2999] = 1.5;
    logits[1234] = 1.5;
    assert_eq!(sampler.sample(&mut logits).unwrap(), 1234);
}

#[test]
fn a_seed_fixes_the_tokens() {
    let (logits, _) = spread();
    let tokens = |settings: &Settings, seed| -> Vec<u32> {
        let mut sampler = sampler(settings.clone(), seed);
        (0..64)
            .map(|_| sampler.sample(&mut logits.clone()).unwrap())
            .collect()
    };
    let cut = Settings {
        top_p: 0.9,
        ..Settings::default()
    };
    for settings in [Settings::default(), cut] {
        assert_eq!(tokens(&settings, 5), tokens(&settings, 5));
        assert_ne!(tokens(&settings, 5), tokens(&settings, 6));
    }
    // Written down once: another machine, instruction set or release must give the same.
    assert_eq!(
        tokens(&Settings::default(), 5)[..8],
        [341, 527, 248, 124, 155, 341, 589, 403]
    );
}

#[test]
fn one_random_number_per_token_whatever_the_settings() {
    let (logits, _) = spread();
    let greedy = Settings {
        temperature: 0.0,
        ..Settings::default()
    };
    let cut = Settings {
        min_p: 0.3,
        ..Settings::default()
    };
    let state = |settings| {
        let mut sampler = sampler(settings, 3);
        sampler.sample(&mut logits.clone()).unwrap();
        sampler.random_state()
    };
    assert_eq!(state(greedy), state(Settings::default()));
    assert_eq!(state(cut), state(Settings::default()));
}

#[test]
fn penalties_and_bias_reach_the_choice() {
    let settings = Settings {
        temperature: 0.0,
        logit_bias: vec![(1, f32::NEG_INFINITY)],
        repetition: Repetition {
            presence: 1.0,
            ..Repetition::default()
        },
        ..Settings::default()
    };
    let mut sampler = sampler(settings, 0);
    let logits = [1.0, 9.0, 0.8, 0.1];
    assert_eq!(sampler.sample(&mut logits.clone()).unwrap(), 0);
    sampler.accept(0);
    assert_eq!(sampler.sample(&mut logits.clone()).unwrap(), 2);
    sampler.set_history(&[]);
    assert_eq!(sampler.sample(&mut logits.clone()).unwrap(), 0);
}

#[test]
fn broken_logits_and_settings_are_errors() {
    let mut all = sampler(Settings::default(), 0);
    assert!(all.sample(&mut [f32::NEG_INFINITY; 10]).is_err());
    assert!(all.sample(&mut [0.0, f32::NAN]).is_err());
    assert!(all.sample(&mut []).is_err());
    let error = |settings| Sampler::new(settings, 0).unwrap_err().to_string();
    let hot = Settings {
        temperature: f32::NAN,
        ..Settings::default()
    };
    assert_eq!(error(hot), "temp is NaN, expected 0 or more");
    let wide = Settings {
        top_p: 1.5,
        ..Settings::default()
    };
    assert_eq!(error(wide), "top-p is 1.5, expected a number from 0 to 1");
}

/// `cargo test --release -p fourfold --lib -- --ignored --nocapture sampler_cost`
#[test]
#[ignore = "a measurement"]
fn sampler_cost() {
    let mut random = Random::new(1);
    let logits: Vec<f32> = (0..201_088)
        .map(|_| {
            // A sum of uniforms is close enough to the bell shape of real logits.
            (0..6).map(|_| random.unit() as f32).sum::<f32>() * 6.0
        })
        .collect();
    let cases = [
        ("temperature 1", Settings::default()),
        (
            "greedy",
            Settings {
                temperature: 0.0,
                ..Settings::default()
            },
        ),
        (
            "top-k 40",
            Settings {
                top_k: 40,
                ..Settings::default()
            },
        ),
        (
            "top-p 0.95",
            Settings {
                top_p: 0.95,
                ..Settings::default()
            },
        ),
        (
            "min-p 0.05",
            Settings {
                min_p: 0.05,
                ..Settings::default()
            },
        ),
        (
            "typical 0.9",
            Settings {
                typical_p: 0.9,
                ..Settings::default()
            },
        ),
    ];
    for (name, settings) in cases {
        let mut sampler = sampler(settings, 1);
        let mut scratch = logits.clone();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            std::hint::black_box(sampler.sample(&mut scratch).unwrap());
        }
        println!("{name}: {:.3} ms", start.elapsed().as_secs_f64() * 10.0);
    }
}
