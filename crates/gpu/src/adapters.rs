//! The GPUs of a machine, and what each can do.

use wgpu::{Adapter, Backends, DeviceType, Features, Instance, InstanceDescriptor};

use crate::error::GpuError;
use crate::float_modes::{self, FloatSupport};

/// A GPU, or what stands in for one.
pub struct AdapterListing {
    pub(crate) adapter: Adapter,
    /// Its name, as its driver says it.
    pub name: String,
    /// The driver, and its version.
    pub driver: String,
    /// The interface that it is reached by: Vulkan or Metal.
    pub backend: String,
    /// Whether it is a program that computes on the CPU: good for tests, and slow.
    pub is_software: bool,
    /// Whether its memory is the machine's.
    pub is_integrated: bool,
    /// Bytes of its memory, where they are known.
    pub memory_bytes: Option<u64>,
    /// Bytes of a buffer that an operator sees, at most.
    pub largest_binding: u64,
    /// Why it cannot be used; `None` if it can.
    pub missing: Option<&'static str>,
}

/// Bytes of parameters of an operator.
pub(crate) const PARAMETER_BYTES: u32 = 128;
/// Threads that work together, and the memory that they share.
const WORKGROUP_THREADS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16 << 10;

impl AdapterListing {
    fn new(adapter: Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let missing = if !adapter.features().contains(Features::IMMEDIATES)
            || limits.max_immediate_size < PARAMETER_BYTES
        {
            Some("it takes no parameters beside buffers")
        } else if limits.max_compute_invocations_per_workgroup < WORKGROUP_THREADS
            || limits.max_compute_workgroup_storage_size < WORKGROUP_BYTES
        {
            Some("its workgroups are too small")
        } else {
            None
        };
        Self {
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: format!("{:?}", info.backend),
            is_software: info.device_type == DeviceType::Cpu,
            is_integrated: info.device_type == DeviceType::IntegratedGpu,
            largest_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            memory_bytes: float_modes::memory_bytes(&adapter),
            missing,
            adapter,
        }
    }

    /// What it offers to keep float arithmetic exact.
    pub(crate) fn float_support(&self) -> FloatSupport {
        float_modes::support(&self.adapter)
    }
}

/// The GPUs of this machine: those that can be used first, software last.
pub fn adapters() -> Vec<AdapterListing> {
    let mut description = InstanceDescriptor::new_without_display_handle();
    description.backends = Backends::VULKAN | Backends::METAL;
    let instance = Instance::new(description);
    let found = pollster::block_on(instance.enumerate_adapters(Backends::VULKAN | Backends::METAL));
    let mut listings: Vec<_> = found.into_iter().map(AdapterListing::new).collect();
    listings.sort_by_key(|listing| (listing.missing.is_some(), listing.is_software, listing.is_integrated));
    listings
}

/// The adapter that `choice` names: its number in [`adapters`], or a part of its name; the first that can be used if `None`.
///
/// # Errors
/// If there is none, or it cannot be used.
pub fn choose(choice: Option<&str>) -> Result<AdapterListing, GpuError> {
    let listings = adapters();
    let names = || listings.iter().map(|listing| listing.name.clone()).collect::<Vec<_>>();
    if listings.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let place = match choice {
        None => 0,
        Some(choice) => {
            let wanted = choice.to_lowercase();
            let is_called = |listing: &AdapterListing| listing.name.to_lowercase().contains(&wanted);
            let place = match choice.parse::<usize>() {
                Ok(number) => Some(number).filter(|&number| number < listings.len()),
                Err(_) => listings.iter().position(is_called),
            };
            place.ok_or_else(|| GpuError::UnknownAdapter { choice: choice.to_owned(), known: names() })?
        }
    };
    let listing = listings.into_iter().nth(place).ok_or(GpuError::NoAdapter)?;
    match listing.missing {
        Some(missing) => Err(GpuError::Unusable { name: listing.name, missing }),
        None => Ok(listing),
    }
}
