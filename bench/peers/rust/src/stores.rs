//! What each store is told, and what that means for the disk.

use std::path::Path;
use std::sync::Arc;

use d_engine_core::{LogStore, StorageEngine};
use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::EntryPayload;
use d_engine_server::FileStorageEngine;
#[cfg(feature = "rocksdb")]
use d_engine_server::RocksDBStorageEngine;
use raft_engine::{Config, Engine, LogBatch, MessageExt};
use raft_proto::eraftpb;

pub trait Store {
    type Entry;

    fn entry(index: u64, payload: Vec<u8>) -> Self::Entry;
    fn open(directory: &Path, durable: bool) -> Self;
    fn append(&mut self, entries: Vec<Self::Entry>);
    /// From `first` to before `end`.
    fn read(&self, first: u64, end: u64) -> Vec<Self::Entry>;
    /// 0 where there is none.
    fn last(&self) -> u64;
}

pub trait Open: StorageEngine + Sized {
    fn open(directory: &Path) -> Self;
}

impl Open for FileStorageEngine {
    fn open(directory: &Path) -> Self {
        Self::new(directory.to_path_buf()).unwrap()
    }
}

#[cfg(feature = "rocksdb")]
impl Open for RocksDBStorageEngine {
    fn open(directory: &Path) -> Self {
        Self::new(directory).unwrap()
    }
}

/// d-engine's own stores. persist_entries alone makes nothing durable, neither with files (its
/// is_write_durable() says so) nor with RocksDB (its is_write_durable() says true, its comment that
/// power loss is not meant). Durable: flush() after each, an fsync of the log file or flush_wal(true),
/// an fdatasync of RocksDB's WAL. Otherwise: persist_entries alone, which has written to the page
/// cache. The file store keeps every entry in memory, too, and reads from there.
pub struct DEngine<E: StorageEngine> {
    log: Arc<E::LogStore>,
    durable: bool,
    runtime: tokio::runtime::Runtime,
    _engine: E,
}

impl<E: Open> Store for DEngine<E> {
    type Entry = d_engine_proto::common::Entry;

    fn entry(index: u64, payload: Vec<u8>) -> Self::Entry {
        let payload = EntryPayload { payload: Some(Payload::Command(payload.into())) };
        Self::Entry { index, term: 1, payload: Some(payload) }
    }

    fn open(directory: &Path, durable: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let engine = E::open(directory);
        Self { log: engine.log_store(), durable, runtime, _engine: engine }
    }

    fn append(&mut self, entries: Vec<Self::Entry>) {
        self.runtime.block_on(self.log.persist_entries(entries)).unwrap();
        if self.durable {
            self.log.flush().unwrap();
        }
    }

    fn read(&self, first: u64, end: u64) -> Vec<Self::Entry> {
        self.log.get_entries(first..=end - 1).unwrap()
    }

    fn last(&self) -> u64 {
        self.log.last_index()
    }
}

/// TiKV's. Durable: write(batch, sync = true), an fdatasync of the log file. Otherwise sync = false:
/// only written. As it comes: batches above 8 KiB go through LZ4. Entries are read from the files and
/// decoded; an index of them is in memory.
pub struct RaftEngine {
    engine: Engine,
    durable: bool,
    batch: LogBatch,
}

#[derive(Clone)]
struct Typed;

impl MessageExt for Typed {
    type Entry = eraftpb::Entry;

    fn index(entry: &Self::Entry) -> u64 {
        entry.index
    }
}

const GROUP: u64 = 1;

impl Store for RaftEngine {
    type Entry = eraftpb::Entry;

    fn entry(index: u64, payload: Vec<u8>) -> Self::Entry {
        let mut made = eraftpb::Entry::default();
        made.index = index;
        made.term = 1;
        made.data = payload.into();
        made
    }

    fn open(directory: &Path, durable: bool) -> Self {
        let dir = directory.to_str().unwrap().to_owned();
        let engine = Engine::open(Config { dir, ..Default::default() }).unwrap();
        Self { engine, durable, batch: LogBatch::default() }
    }

    fn append(&mut self, entries: Vec<Self::Entry>) {
        self.batch.add_entries::<Typed>(GROUP, &entries).unwrap();
        self.engine.write(&mut self.batch, self.durable).unwrap();
    }

    fn read(&self, first: u64, end: u64) -> Vec<Self::Entry> {
        let mut found = Vec::new();
        self.engine.fetch_entries_to::<Typed>(GROUP, first, end, None, &mut found).unwrap();
        found
    }

    fn last(&self) -> u64 {
        self.engine.last_index(GROUP).unwrap_or(0)
    }
}
