//! Where the pages of KV caches lie: what caches ask of a device.

use std::sync::Arc;

use lookahead_kernels::{KvLayout, KvPage};

use crate::language_model::OutOfCacheMemory;

/// Makes pages of KV caches, each with the keys and values of all layers for [`PAGE_ROWS`](lookahead_kernels::PAGE_ROWS) tokens,
/// and copies what they hold. Caches know which page is whose; a device knows where a page lies.
pub trait KvPages {
    /// A page. Its memory is given back when it is dropped.
    type Page: std::fmt::Debug;

    /// Bytes of a page.
    fn page_bytes(&self) -> usize;

    /// A page with anything in it.
    ///
    /// # Errors
    /// If the device has no memory left.
    fn new_page(&self) -> Result<Self::Page, OutOfCacheMemory>;

    /// Copies all rows of page `from` to page `to`.
    fn copy_page(&self, from: &Self::Page, to: &mut Self::Page);

    /// Copies rows `[from, to]` of a cache with these pages, one after the other. No page that is written to is shared.
    fn copy_rows(&self, pages: &mut [Arc<Self::Page>], rows: impl Iterator<Item = [usize; 2]>);
}

/// On the CPU.
impl KvPages for KvLayout {
    type Page = KvPage;

    fn page_bytes(&self) -> usize {
        self.page_bytes()
    }

    fn new_page(&self) -> Result<KvPage, OutOfCacheMemory> {
        KvPage::new(self).map_err(|_| OutOfCacheMemory)
    }

    fn copy_page(&self, from: &KvPage, to: &mut KvPage) {
        to.copy_from(from);
    }

    fn copy_rows(&self, pages: &mut [Arc<KvPage>], rows: impl Iterator<Item = [usize; 2]>) {
        for [from, to] in rows {
            self.copy_row(pages, from, to);
        }
    }
}
