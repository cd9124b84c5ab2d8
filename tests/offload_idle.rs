//! While a device works, the processor's workers sleep. A test of its own process: other tests' workers would be counted.
#![cfg(all(feature = "gpu", target_os = "linux"))]

use std::fs;
use std::time::{Duration, Instant};

use fourfold::model::offload::{self, Amount, Wish};
use fourfold::model::{Batch, Logits, Options};

/// The time that the pool's threads, called "worker 1" and so on, have run until now.
fn workers_ran() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.map(|task| {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let times = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let ran = times.split(' ').next().and_then(|ran| ran.parse().ok());
        ran.filter(|_| name.starts_with("worker ")).unwrap_or(0)
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[test]
fn workers_sleep_while_a_device_reads_a_prompt() {
    let all = std::env::var_os("FOURFOLD_TEST_GPU").is_some();
    for card in offload::cards() {
        if !all && card.name != "CPU" {
            continue;
        }
        let options = Options {
            context: 1024,
            threads: 4,
            ..Options::default()
        };
        let mut model = fourfold::demo::model(options).unwrap();
        let wish = Wish {
            layers: Amount::All,
            context: Some(1024),
            ..Wish::default()
        };
        let plan = offload::plan(&model.sizes(), &card, &wish).unwrap();
        model.place(&plan.unwrap(), &mut |_| ()).unwrap();

        let read = || {
            let mut sequence = model.new_sequence();
            let tokens: Vec<u32> = (0..512).map(|i| i % 300).collect();
            let batch = Batch::continuing(0, &tokens);
            let (begin, before) = (Instant::now(), workers_ran());
            let mut logits = Logits::default();
            let sequences = &mut [&mut sequence];
            model.forward(&batch, sequences, &mut logits).unwrap();
            (begin.elapsed(), workers_ran() - before)
        };
        // The first time graphs are built and shaders compiled.
        read();
        let (took, worked) = read();
        println!(
            "{}: {worked:?} of work by three workers in {took:?}",
            card.name
        );
        assert!(
            worked < took / 5,
            "{}: three workers ran {worked:?} in {took:?}",
            card.name
        );
    }
}
