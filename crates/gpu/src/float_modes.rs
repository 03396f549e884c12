//! What Vulkan says of a device beside what the GPU library does: how float arithmetic can be kept exact, and its memory.

use wgpu::naga::back::spv::Capability;

use crate::spirv::FloatMode;

/// What a device offers to keep float arithmetic exact.
#[derive(Clone, Debug, Default)]
pub(crate) struct FloatSupport {
    /// Modes to set, each for floats of so many bits.
    pub(crate) modes: Vec<(FloatMode, u32)>,
    /// Whether it has products of four bytes at once.
    pub(crate) byte_products: bool,
}

impl FloatSupport {
    /// The capabilities that shaders may use.
    pub(crate) fn capabilities(&self, has_doubles: bool) -> Vec<Capability> {
        let mut capabilities = vec![Capability::Shader, Capability::Matrix];
        if has_doubles {
            capabilities.push(Capability::Float64);
        }
        if self.byte_products {
            capabilities.extend([Capability::DotProduct, Capability::DotProductInput4x8BitPacked]);
        }
        capabilities
    }
}

#[cfg(target_vendor = "apple")]
pub(crate) fn support(_: &wgpu::Adapter) -> FloatSupport {
    FloatSupport::default()
}

/// Bytes of the device's memory, where they are known.
#[cfg(target_vendor = "apple")]
pub(crate) fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// Bytes of the device's memory, where they are known.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    use ash::vk::MemoryHeapFlags;

    // SAFETY: the raw adapter is only asked for its properties, and not kept.
    let raw = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = raw.shared_instance().raw_instance();
    // SAFETY: instance and device are alive as long as `adapter`.
    let memory = unsafe { instance.get_physical_device_memory_properties(raw.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.contains(MemoryHeapFlags::DEVICE_LOCAL)).map(|heap| heap.size).max()
}

#[cfg(not(target_vendor = "apple"))]
pub(crate) fn support(adapter: &wgpu::Adapter) -> FloatSupport {
    use ash::vk;

    // SAFETY: the raw adapter is only asked for its properties, and not kept.
    let Some(raw) = (unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }) else {
        return FloatSupport::default();
    };
    let mut controls = vk::PhysicalDeviceFloatControlsProperties::default();
    let mut products = vk::PhysicalDeviceShaderIntegerDotProductFeatures::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut controls);
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut products);
    let (instance, device) = (raw.shared_instance().raw_instance(), raw.raw_physical_device());
    // SAFETY: instance and device are alive as long as `adapter`, and the structures chain to each other; version 1.3 has both.
    let version = unsafe { instance.get_physical_device_properties(device) }.api_version;
    if version < vk::API_VERSION_1_3 {
        return FloatSupport::default();
    }
    // SAFETY: as above.
    unsafe {
        instance.get_physical_device_properties2(device, &mut properties);
        instance.get_physical_device_features2(device, &mut features);
    }
    let offered = [
        (controls.shader_denorm_preserve_float32, FloatMode::DenormPreserve, 32),
        (controls.shader_denorm_preserve_float64, FloatMode::DenormPreserve, 64),
        (controls.shader_signed_zero_inf_nan_preserve_float32, FloatMode::SignedZeroInfNanPreserve, 32),
        (controls.shader_rounding_mode_rte_float32, FloatMode::RoundingRte, 32),
        (controls.shader_rounding_mode_rte_float64, FloatMode::RoundingRte, 64),
    ];
    // Where one setting holds for all widths, those of 64 bits would have to be the same, which they are.
    let modes = offered.into_iter().filter(|(is_offered, ..)| *is_offered == vk::TRUE);
    FloatSupport {
        modes: modes.map(|(_, mode, width)| (mode, width)).collect(),
        byte_products: products.shader_integer_dot_product == vk::TRUE,
    }
}
