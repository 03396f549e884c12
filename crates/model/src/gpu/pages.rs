//! Pages of KV caches on a GPU: slots in its memory, which has room for a fixed number of them.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lookahead_gpu::{Gpu, GpuError, KvMemory, Memory, Pass, place};
use lookahead_kernels::PAGE_ROWS;

use crate::kv_pages::KvPages;
use crate::language_model::OutOfCacheMemory;

/// The memory of all KV caches of a model on a GPU.
#[derive(Debug)]
pub(crate) struct GpuPages {
    gpu: Arc<Gpu>,
    memory: KvMemory,
    page_bytes: usize,
    slots: Arc<Slots>,
    moves: Mutex<Moves>,
}

/// Rows that a commit moves: given to the GPU together, when all sequences are committed.
#[derive(Debug)]
struct Moves {
    places: Vec<[u32; 2]>,
    pass: Pass,
    memory: Memory,
    /// Why rows were not moved: caches are of no use any more.
    error: Option<GpuError>,
}

/// A page: a slot, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct GpuPage {
    slot: u32,
    slots: Arc<Slots>,
}

/// The slots that are free.
#[derive(Debug)]
struct Slots(Mutex<FreeSlots>);

#[derive(Debug)]
struct FreeSlots {
    /// Those that were given back.
    used: Vec<u32>,
    /// Those that nobody has had yet.
    new: Range<u32>,
}

impl Slots {
    fn free(&self) -> MutexGuard<'_, FreeSlots> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GpuPage {
    /// Its slot.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }
}

impl Drop for GpuPage {
    fn drop(&mut self) {
        self.slots.free().used.push(self.slot);
    }
}

impl GpuPages {
    /// All slots of `memory`, each of `page_bytes` bytes.
    pub(crate) fn new(
        gpu: Arc<Gpu>,
        memory: KvMemory,
        slots: usize,
        page_bytes: usize,
    ) -> Result<Self, GpuError> {
        let moves =
            Moves { places: Vec::new(), pass: Pass::default(), memory: Memory::new(&gpu)?, error: None };
        let slots = Arc::new(Slots(Mutex::new(FreeSlots { used: Vec::new(), new: 0..slots as u32 })));
        Ok(Self { gpu, memory, page_bytes, slots, moves: Mutex::new(moves) })
    }

    /// Where the rows of caches lie.
    pub(crate) fn memory(&self) -> &KvMemory {
        &self.memory
    }

    /// Moves the rows that commits have named, behind all that the GPU was given before.
    pub(crate) fn move_rows(&self) {
        let Moves { places, pass, memory, error } = &mut *self.moves();
        if !places.is_empty() {
            pass.clear();
            self.memory.move_rows(&self.gpu, pass, places);
            places.clear();
            if let Err(failed) = memory.submit(&self.gpu, pass) {
                error.get_or_insert(failed);
            }
        }
    }

    /// Why rows were not moved, if they were not.
    pub(crate) fn error(&self) -> Option<String> {
        let error =
            |error| format!("{error}; rows of caches are lost, and the program must be started again");
        self.moves().error.as_ref().map(error)
    }

    fn moves(&self) -> MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KvPages for GpuPages {
    type Page = GpuPage;

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn new_page(&self) -> Result<GpuPage, OutOfCacheMemory> {
        let mut free = self.slots.free();
        let slot = free.used.pop().or_else(|| free.new.next()).ok_or(OutOfCacheMemory)?;
        Ok(GpuPage { slot, slots: Arc::clone(&self.slots) })
    }

    fn copy_page(&self, from: &GpuPage, to: &mut GpuPage) {
        self.move_rows();
        self.memory.copy_page(&self.gpu, from.slot, to.slot);
    }

    fn copy_rows(&self, pages: &mut [Arc<GpuPage>], rows: impl Iterator<Item = [usize; 2]>) {
        let place_of = |row: usize| place(pages[row / PAGE_ROWS].slot, row);
        self.moves().places.extend(rows.map(|rows| rows.map(place_of)));
    }
}
