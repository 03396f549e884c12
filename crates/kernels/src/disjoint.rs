//! Slices that the tasks of a job write at the same time, each its own part.

use std::marker::PhantomData;

/// A slice whose disjoint parts the tasks of a job write.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    _slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts that the callers promise to be disjoint; sending `&mut T` needs `T: Send`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), _slice: PhantomData }
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No other part in use overlaps it.
    ///
    /// # Panics
    /// If it does not lie within the slice.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a task's part lies outside the slice");
        // SAFETY: within the slice, which is borrowed mutably for 'a; the caller promises no overlap.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Slices of as many rows each, whose rows the tasks of a job write.
pub(crate) struct DisjointRows<'a, const N: usize>([(Disjoint<'a, f32>, usize); N]);

impl<'a, const N: usize> DisjointRows<'a, N> {
    /// `values` and their number in a row, for each slice.
    ///
    /// # Panics
    /// If a slice has not `rows` rows.
    pub(crate) fn new(slices: [(&'a mut [f32], usize); N], rows: usize) -> Self {
        Self(slices.map(|(values, width)| {
            assert_eq!(values.len(), rows * width, "{rows} rows of {width} values");
            (Disjoint::new(values), width)
        }))
    }

    /// Row `row` of each slice.
    ///
    /// # Safety
    /// No other use of this row is going on.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn row(&self, row: usize) -> [&mut [f32]; N] {
        // SAFETY: the caller's promise; rows do not overlap.
        self.0.each_ref().map(|(values, width)| unsafe { values.part(row * width, *width) })
    }
}
