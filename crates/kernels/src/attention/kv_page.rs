//! Where the keys and values of a sequence lie: rows of tokens, in pages that sequences may share.
//!
//! A page holds [`PAGE_ROWS`] rows of all layers: layer by layer the keys of each head, then its values (see
//! [`KvElement`]). Row `r` of a sequence is row `r % PAGE_ROWS` of its page `r / PAGE_ROWS`. A page that several
//! sequences share is never written.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;

use super::kv_type::{Byte, Half, KvElement, KvType, Single};
use crate::simd::GROUP;

/// Rows that a tile of scores takes.
pub(super) const TILE_ROWS: usize = 2 * GROUP;

/// Rows of a page. More of them would waste more of a sequence's last page; fewer gain nothing.
pub const PAGE_ROWS: usize = 64;

// No tile goes over the border of a page.
const _: () = assert!(PAGE_ROWS.is_multiple_of(TILE_ROWS));

/// Keys and values of all layers for [`PAGE_ROWS`] rows.
#[derive(Debug)]
pub struct KvPage(MmapMut);

impl KvPage {
    /// A page of zeros. Its memory is taken from the system as it is written, and given back when it is dropped.
    ///
    /// # Errors
    /// If the system has no memory.
    pub fn new(layout: &KvLayout) -> io::Result<Self> {
        // An empty mapping is an error to some systems.
        MmapMut::map_anon(layout.page_bytes.max(1)).map(Self)
    }

    /// Takes over all rows of `other`.
    ///
    /// # Panics
    /// If `other` has another layout.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.copy_from_slice(&other.0);
    }

    /// Its bytes, for tests of what is read and written.
    #[doc(hidden)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What a layer keeps of a token: keys and values of some heads, each of sizes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Heads of keys and values.
    pub heads: usize,
    /// Dimensions of a key.
    pub key_dim: usize,
    /// Dimensions of a value.
    pub value_dim: usize,
}

impl KvShape {
    /// Bytes of a token.
    pub const fn row_bytes(self, kv_type: KvType) -> usize {
        self.heads * (kv_type.row_bytes(self.key_dim) + kv_type.row_bytes(self.value_dim))
    }
}

/// How keys and values of all layers of a model lie in pages.
#[derive(Clone, Debug)]
pub struct KvLayout {
    kv_type: KvType,
    layers: Vec<LayerLayout>,
    page_bytes: usize,
}

/// A layer's part of a page: the keys of all heads, then the values of all heads, from byte `start` on.
#[derive(Clone, Copy, Debug)]
struct LayerLayout {
    shape: KvShape,
    /// Bytes of a key of one head.
    key_bytes: usize,
    /// Bytes of a value of one head.
    value_bytes: usize,
    start: usize,
}

impl LayerLayout {
    /// Where the keys of a head lie: `[block of 16 rows]`, see [`KvElement`].
    fn keys(&self, head: usize) -> Range<usize> {
        let bytes = PAGE_ROWS * self.key_bytes;
        let start = self.start + head * bytes;
        start..start + bytes
    }

    /// Where the values of a head lie: `[row]`.
    fn values(&self, head: usize) -> Range<usize> {
        let bytes = PAGE_ROWS * self.value_bytes;
        let start = self.start + self.shape.heads * PAGE_ROWS * self.key_bytes + head * bytes;
        start..start + bytes
    }
}

impl KvLayout {
    /// The layout of layers of the given shapes.
    pub fn new(kv_type: KvType, layers: impl IntoIterator<Item = KvShape>) -> Self {
        let mut page_bytes = 0;
        let layers = layers.into_iter().map(|shape| {
            let [key_bytes, value_bytes] = [shape.key_dim, shape.value_dim].map(|dim| kv_type.row_bytes(dim));
            let layer = LayerLayout { shape, key_bytes, value_bytes, start: page_bytes };
            page_bytes += PAGE_ROWS * shape.row_bytes(kv_type);
            layer
        });
        Self { kv_type, layers: layers.collect(), page_bytes }
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The rows of layer `layer` in `pages`, which are of this layout, for attention.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn layer<'a>(&self, layer: usize, pages: &'a [Arc<KvPage>]) -> KvLayer<'a> {
        debug_assert!(
            pages.iter().all(|page| page.0.len() == self.page_bytes.max(1)),
            "pages of this layout have {} bytes",
            self.page_bytes
        );
        KvLayer { kv_type: self.kv_type, layout: self.layers[layer], pages }
    }

    /// Writes row `row` of layer `layer`: `key` and `value` of all heads side by side.
    ///
    /// # Panics
    /// If there is no such row, its page is shared, or the lengths are not those of the layer.
    pub fn write(&self, pages: &mut [Arc<KvPage>], layer: usize, row: usize, key: &[f32], value: &[f32]) {
        let (layer, page) = (&self.layers[layer], own(&mut pages[row / PAGE_ROWS]));
        let KvShape { heads, key_dim, value_dim } = layer.shape;
        assert!(key.len() == heads * key_dim && value.len() == heads * value_dim, "a row of the layer");
        match self.kv_type {
            KvType::F32 => layer.write::<Single>(page, row % PAGE_ROWS, key, value),
            KvType::F16 => layer.write::<Half>(page, row % PAGE_ROWS, key, value),
            KvType::Q8_0 => layer.write::<Byte>(page, row % PAGE_ROWS, key, value),
        }
    }

    /// Copies row `from` of all layers over row `to`.
    ///
    /// # Panics
    /// If there are no such rows, or the page of row `to` is shared.
    pub fn copy_row(&self, pages: &mut [Arc<KvPage>], from: usize, to: usize) {
        let rows = [from % PAGE_ROWS, to % PAGE_ROWS];
        let [from, to] = [from / PAGE_ROWS, to / PAGE_ROWS];
        if from == to {
            let page = own(&mut pages[to]);
            self.for_each_part(rows, |from, to| page.copy_within(from, to));
        } else {
            let Ok([from, to]) = pages.get_disjoint_mut([from, to]) else { panic!("rows of the cache") };
            let to = own(to);
            self.for_each_part(rows, |part, at| to[at..][..part.len()].copy_from_slice(&from.0[part]));
        }
    }

    /// Calls `copy` for every part of row `from` that lies in one piece, with its place and where it begins in row `to`;
    /// both are rows of a page.
    fn for_each_part(&self, [from, to]: [usize; 2], mut copy: impl FnMut(Range<usize>, usize)) {
        let key_parts = match self.kv_type {
            KvType::F32 => Single::KEY_PARTS,
            KvType::F16 => Half::KEY_PARTS,
            KvType::Q8_0 => Byte::KEY_PARTS,
        };
        for layer in &self.layers {
            let &LayerLayout { key_bytes, value_bytes, .. } = layer;
            for head in 0..layer.shape.heads {
                // A key's parts lie `GROUP` parts apart.
                let start = layer.keys(head).start;
                let places = [from, to].map(|row| (start + row / GROUP * GROUP * key_bytes, row % GROUP));
                let mut offset = 0;
                for part in key_parts.iter().cycle() {
                    if offset == GROUP * key_bytes {
                        break;
                    }
                    let [from, to] = places.map(|(block, lane)| block + offset + lane * part);
                    copy(from..from + part, to);
                    offset += GROUP * part;
                }
                let [from, to] = [from, to].map(|row| layer.values(head).start + row * value_bytes);
                copy(from..from + value_bytes, to);
            }
        }
    }
}

impl LayerLayout {
    fn write<E: KvElement>(&self, page: &mut [u8], row: usize, key: &[f32], value: &[f32]) {
        let heads = key.chunks_exact(self.shape.key_dim).zip(value.chunks_exact(self.shape.value_dim));
        for (head, (key, value)) in heads.enumerate() {
            E::write_key(&mut page[self.keys(head)], self.key_bytes, row, key);
            let values = &mut page[self.values(head)];
            E::write_value(&mut values[row * self.value_bytes..][..self.value_bytes], value);
        }
    }
}

/// The bytes of a page that is about to be written.
fn own(page: &mut Arc<KvPage>) -> &mut [u8] {
    &mut Arc::get_mut(page).expect("a page that is written is not shared").0
}

/// Keys and values of one layer of one sequence, as attention reads them.
#[derive(Clone, Copy, Debug)]
pub struct KvLayer<'a> {
    kv_type: KvType,
    layout: LayerLayout,
    pages: &'a [Arc<KvPage>],
}

impl<'a> KvLayer<'a> {
    pub(super) fn kv_type(&self) -> KvType {
        self.kv_type
    }

    pub(super) fn shape(&self) -> KvShape {
        self.layout.shape
    }

    /// Bytes of a key of one head.
    pub(super) fn key_bytes(&self) -> usize {
        self.layout.key_bytes
    }

    /// Bytes of a value of one head.
    pub(super) fn value_bytes(&self) -> usize {
        self.layout.value_bytes
    }

    /// Rows that there are.
    pub(super) fn rows(&self) -> usize {
        self.pages.len() * PAGE_ROWS
    }

    /// Keys of head `head`: the blocks of sixteen rows from row `row` on, to the end of its page.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize, row: usize) -> &'a [u8] {
        let keys = &self.pages[row / PAGE_ROWS].0[self.layout.keys(head)];
        &keys[row % PAGE_ROWS / GROUP * GROUP * self.layout.key_bytes..]
    }

    /// Values of head `head`: the rows from row `row` on, to the end of its page.
    #[inline(always)]
    pub(super) fn values(&self, head: usize, row: usize) -> &'a [u8] {
        let values = &self.pages[row / PAGE_ROWS].0[self.layout.values(head)];
        &values[row % PAGE_ROWS * self.layout.value_bytes..]
    }
}
