//! The logs of other projects in Rust, behind a protocol of lines, so that a benchmark can take
//! turns with them: a round here, a round of its own.
//!
//!     peers STORE DIRECTORY DURABLE
//!
//! opens STORE (see stores.rs) in DIRECTORY and says in a line of JSON how long that took, the last
//! entry read included. DURABLE is 1 or 0. Each line on standard input is answered by one more:
//!
//!     append CALLS BATCH PAYLOAD    CALLS times BATCH entries of PAYLOAD random bytes, each call timed
//!     read FIRST COUNT              so many entries, into a vector of the store's own type
//!
//! At the end of the input the store is closed.

mod stores;

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use stores::{DEngine, RaftEngine, Store};

/// xorshift: bytes that no store can compress.
struct Random(u64);

impl Random {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut made = Vec::with_capacity(count + 8);
        while made.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            made.extend_from_slice(&self.0.to_le_bytes());
        }
        made.truncate(count);
        made
    }
}

fn append<S: Store>(store: &mut S, calls: usize, batch: u64, payload: usize, random: &mut Random) {
    let first = store.last() + 1;
    let batches: Vec<Vec<S::Entry>> = (0..calls as u64)
        .map(|call| first + call * batch)
        .map(|start| (start..start + batch).map(|i| S::entry(i, random.bytes(payload))).collect())
        .collect();
    let mut times: Vec<u64> = Vec::with_capacity(calls);
    for entries in batches {
        let start = Instant::now();
        store.append(entries);
        times.push(start.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    let share = |part: f64| times[((calls as f64 * part) as usize).min(calls - 1)] as f64 / 1e3;
    println!(
        "{{\"count\": {calls}, \"seconds\": {:.9}, \"p50_us\": {:.3}, \"p99_us\": {:.3}, \
         \"p999_us\": {:.3}, \"max_us\": {:.3}}}",
        times.iter().sum::<u64>() as f64 / 1e9,
        share(0.5),
        share(0.99),
        share(0.999),
        share(1.0),
    );
}

fn read<S: Store>(store: &S, first: u64, count: u64) {
    let start = Instant::now();
    let found = store.read(first, first + count);
    let seconds = start.elapsed().as_secs_f64();
    println!("{{\"count\": {}, \"seconds\": {seconds:.9}}}", found.len());
}

fn serve<S: Store>(directory: &Path, durable: bool) {
    let start = Instant::now();
    let mut store = S::open(directory, durable);
    let last = store.last();
    let found = if last > 0 { store.read(last, last + 1).len() } else { 0 };
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(found, usize::from(last > 0));
    println!("{{\"last\": {last}, \"seconds\": {seconds:.9}}}");
    let mut random = Random(0x9e3779b97f4a7c15);
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (verb, rest) = line.split_once(' ').expect("a verb and its numbers");
        let numbers: Vec<u64> = rest.split(' ').map(|word| word.parse().unwrap()).collect();
        match (verb, &numbers[..]) {
            ("append", &[calls, batch, payload]) => {
                append(&mut store, calls as usize, batch, payload as usize, &mut random)
            }
            ("read", &[first, count]) => read(&store, first, count),
            _ => panic!("what is {line:?}?"),
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, store, directory, durable] = &words[..] else {
        eprintln!("usage: peers STORE DIRECTORY DURABLE");
        std::process::exit(2);
    };
    let (directory, durable) = (Path::new(directory), durable == "1");
    match store.as_str() {
        "d-engine-file" => serve::<DEngine<d_engine_server::FileStorageEngine>>(directory, durable),
        #[cfg(feature = "rocksdb")]
        "d-engine-rocksdb" => {
            serve::<DEngine<d_engine_server::RocksDBStorageEngine>>(directory, durable)
        }
        "raft-engine" => serve::<RaftEngine>(directory, durable),
        _ => {
            eprintln!("not built: {store}");
            std::process::exit(2);
        }
    }
}
