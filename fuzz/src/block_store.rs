//! A store whose file was damaged anywhere: every key right, or an error; never a wrong value and never a panic.
#![no_main]

use std::{
    ops::{Bound, ControlFlow},
    path::Path,
    sync::{Arc, OnceLock},
};

use libfuzzer_sys::fuzz_target;
use quorate_engine::{Batch, Direction, Durability, Engine, Table};
use quorate_storage::{EngineConfig, RedbEngine, vfs::MemoryVfs};

const TABLE: Table = Table("fuzz");
const KEYS: u32 = 200;
const DIR: &str = "/state";

fuzz_target!(|data: &[u8]| {
    let vfs = MemoryVfs::new();
    for (path, content) in pristine() {
        vfs.put(path, &damage(content, data));
    }
    // Refusing is right; serving is right only if all is as it was.
    let _ = serve(vfs);
});

fn config() -> EngineConfig {
    EngineConfig { cache_bytes: 1 << 20 }
}

/// The files of a small store, made once.
fn pristine() -> &'static Vec<(std::path::PathBuf, Vec<u8>)> {
    static FILES: OnceLock<Vec<(std::path::PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let vfs = MemoryVfs::new();
        let mut engine = RedbEngine::open(Arc::new(vfs.clone()), Path::new(DIR), config())
            .expect("a fresh store");
        let mut batch = Batch::new();
        for key in 0..KEYS {
            batch.put(TABLE, key.to_be_bytes().to_vec(), value(key));
        }
        engine.commit(batch, Durability::Durable).expect("a good disk");
        drop(engine);
        vfs.files()
            .into_iter()
            .map(|(path, _)| (path.clone(), vfs.content(&path).unwrap_or_default()))
            .collect()
    })
}

fn value(key: u32) -> Vec<u8> {
    key.to_le_bytes().repeat(20)
}

/// Each six bytes of input flip bits at one offset.
fn damage(content: &[u8], data: &[u8]) -> Vec<u8> {
    let mut damaged = content.to_vec();
    for piece in data.chunks_exact(6) {
        let at = u32::from_le_bytes([piece[0], piece[1], piece[2], piece[3]]) as usize;
        let size = damaged.len().max(1);
        if let Some(byte) = damaged.get_mut(at % size) {
            *byte ^= piece[4] | 1;
        }
    }
    damaged
}

fn serve(vfs: MemoryVfs) -> Result<(), quorate_engine::Error> {
    let engine = RedbEngine::open(Arc::new(vfs), Path::new(DIR), config())?;
    let mut expected = 0;
    engine.view()?.scan(
        TABLE,
        (Bound::Unbounded, Bound::Unbounded),
        Direction::Forward,
        &mut |key, found| {
            assert_eq!(key, u32::to_be_bytes(expected), "a wrong key");
            assert_eq!(found, value(expected), "a wrong value");
            expected += 1;
            ControlFlow::Continue(())
        },
    )?;
    assert_eq!(expected, KEYS, "keys are missing");
    Ok(())
}
