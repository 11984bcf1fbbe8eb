//! A stopwatch for the micro-benchmarks: `cargo bench --bench NAME -- [FILTER] [--count N]`.
//!
//! Each case is run in batches of about 2 ms; printed are the median and the best of 101 batches, in ns a call. With
//! `--count N` a case runs N times instead and no clock is read, for `valgrind --tool=callgrind`.

use std::hint::black_box;
use std::time::Instant;

const BATCHES: usize = 101;
const BATCH_NS: u128 = 2_000_000;

/// What the command line asks for.
pub struct Bench {
    filter: String,
    count: Option<usize>,
}

impl Bench {
    /// Reads the command line.
    pub fn from_arguments() -> Bench {
        let mut bench = Bench { filter: String::new(), count: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--count" => {
                    let count = arguments.next().and_then(|count| count.parse().ok());
                    bench.count = Some(count.expect("--count takes a number"));
                }
                filter => filter.clone_into(&mut bench.filter),
            }
        }
        bench
    }

    /// Runs `case` if it is asked for. It is given the number of the call, to take another input each time.
    pub fn case<T>(&self, name: &str, mut case: impl FnMut(usize) -> T) {
        if !name.contains(&self.filter) {
            return;
        }
        if let Some(count) = self.count {
            (0..count).for_each(|call| drop(black_box(case(call))));
            println!("{name}: {count} calls");
            return;
        }
        let mut batch = |calls: usize| {
            let start = Instant::now();
            (0..calls).for_each(|call| drop(black_box(case(call))));
            start.elapsed().as_nanos()
        };
        let mut calls = 1;
        while batch(calls) < BATCH_NS {
            calls *= 2;
        }
        let mut batches: Vec<_> = (0..BATCHES).map(|_| batch(calls)).collect();
        batches.sort_unstable();
        let of_a_call = |batch: u128| batch as f64 / calls as f64;
        println!("{name:44} {:10.1} ns, best {:10.1} ns", of_a_call(batches[BATCHES / 2]), of_a_call(batches[0]));
    }
}
