//! A GPU that is open: its pipelines, its memory, and passes over them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::naga::back::spv;
use wgpu::naga::front::wgsl;
use wgpu::naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutDescriptor,
    BindGroupLayoutEntry, BindingType, Buffer, BufferBindingType, BufferDescriptor, BufferUsages,
    ComputePipeline, ComputePipelineDescriptor, Device, DeviceDescriptor, ExperimentalFeatures, Features,
    Limits, PassthroughShaderEntryPoint, PipelineLayout, PipelineLayoutDescriptor, Queue, ShaderModule,
    ShaderModuleDescriptor, ShaderModuleDescriptorPassthrough, ShaderSource, ShaderStages,
};

use crate::adapters::{AdapterListing, PARAMETER_BYTES};
use crate::arithmetic::{Arithmetic, Exactness};
use crate::error::GpuError;
use crate::float_modes::FloatSupport;
use crate::probe;
use crate::spirv::keep_arithmetic;

/// A GPU that is open.
pub struct Gpu {
    pub(crate) device: Device,
    pub(crate) queue: Queue,
    name: String,
    driver: String,
    largest_binding: u64,
    memory_bytes: Option<u64>,
    float_support: FloatSupport,
    is_passthrough: bool,
    arithmetic: Arithmetic,
    exactness: Exactness,
    /// Of the buffers that all operators share, and of an operator's own: one that it reads, or changes.
    shared_layout: BindGroupLayout,
    operand_layouts: [BindGroupLayout; 2],
    pipeline_layouts: [PipelineLayout; 2],
    pipelines: Mutex<HashMap<String, Arc<ComputePipeline>>>,
}

/// What a pipeline does with its own buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads it, or has none.
    Read,
    /// Changes it.
    Write,
}

impl Gpu {
    /// Opens a GPU, and finds out how it computes.
    ///
    /// # Errors
    /// If the driver does not open it, or it computes wrongly.
    pub fn open(listing: &AdapterListing) -> Result<Self, GpuError> {
        let float_support = listing.float_support();
        let offered = listing.adapter.features();
        let wanted = Features::IMMEDIATES | Features::SHADER_F64 | Features::PASSTHROUGH_SHADERS;
        let features = offered & wanted;
        let limits = Limits { max_immediate_size: PARAMETER_BYTES, ..listing.adapter.limits() };
        let description = DeviceDescriptor {
            label: None,
            required_features: features,
            required_limits: limits,
            // SAFETY: shaders that are passed on are made by the shader compiler and completed by `keep_arithmetic`.
            experimental_features: unsafe { ExperimentalFeatures::enabled() },
            ..Default::default()
        };
        let opened = pollster::block_on(listing.adapter.request_device(&description));
        let (device, queue) =
            opened.map_err(|source| GpuError::NotOpened { name: listing.name.clone(), source })?;
        let shared_layout = layout(&device, &[false, false, true]);
        let operand_layouts = [true, false].map(|is_read| layout(&device, &[is_read]));
        let pipeline_layouts = operand_layouts.each_ref().map(|operand| {
            device.create_pipeline_layout(&PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&shared_layout), Some(operand)],
                immediate_size: PARAMETER_BYTES,
            })
        });
        // Where modules are not passed on, the compiler of Metal keeps to the arithmetic by itself, or the probe finds that it does not.
        let is_passthrough = features.contains(Features::PASSTHROUGH_SHADERS) && listing.backend == "Vulkan";
        let mut gpu = Self {
            device,
            queue,
            name: listing.name.clone(),
            driver: listing.driver.clone(),
            largest_binding: listing.largest_binding,
            memory_bytes: listing.memory_bytes,
            float_support,
            is_passthrough,
            arithmetic: Arithmetic::NATIVE,
            exactness: Exactness::Bits,
            shared_layout,
            operand_layouts,
            pipeline_layouts,
            pipelines: Mutex::default(),
        };
        let (arithmetic, exactness) = probe::probe(&mut gpu, features.contains(Features::SHADER_F64))?;
        gpu.set_arithmetic(arithmetic);
        gpu.exactness = exactness;
        Ok(gpu)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its driver, and the driver's version.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// How it computes.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Computes with this arithmetic from now on, whatever the probe has found: for the probe and tests.
    pub(crate) fn set_arithmetic(&mut self, arithmetic: Arithmetic) {
        self.arithmetic = arithmetic;
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether its results are the CPU's.
    pub fn exactness(&self) -> &Exactness {
        &self.exactness
    }

    /// Bytes of a buffer that an operator sees, at most.
    pub fn largest_binding(&self) -> u64 {
        self.largest_binding
    }

    /// Bytes of its memory, where they are known.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// The pipeline of an operator: `source` behind what all share. It is made once.
    ///
    /// # Panics
    /// If the source is wrong: a mistake in this crate.
    pub(crate) fn pipeline(
        &self,
        key: &str,
        access: Access,
        source: impl FnOnce() -> String,
    ) -> Arc<ComputePipeline> {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(key) {
            return Arc::clone(pipeline);
        }
        let module = self.module(key, &format!("{}{}", self.arithmetic.source(), source()));
        let pipeline = self.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(key),
            layout: Some(&self.pipeline_layouts[access as usize]),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Arc::clone(pipelines.entry(key.to_owned()).or_insert(Arc::new(pipeline)))
    }

    fn module(&self, key: &str, source: &str) -> ShaderModule {
        if !self.is_passthrough {
            let source = ShaderSource::Wgsl(Cow::Borrowed(source));
            return self.device.create_shader_module(ShaderModuleDescriptor { label: Some(key), source });
        }
        let module = match wgsl::parse_str(source) {
            Ok(module) => module,
            Err(error) => panic!("{key}: {}", error.emit_to_string(source)),
        };
        let capabilities =
            Capabilities::FLOAT64 | Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let info = match Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
            Ok(info) => info,
            Err(error) => panic!("{key}: {}", error.emit_to_string(source)),
        };
        // Indices are the operators' own, and within the buffers that they bind; what lies beyond those the driver keeps from being read.
        let unchecked = BoundsCheckPolicy::Unchecked;
        let has_doubles = self.arithmetic.has_doubles();
        let options = spv::Options {
            lang_version: (1, 3),
            flags: spv::WriterFlags::empty(),
            capabilities: Some(self.float_support.capabilities(has_doubles).into_iter().collect()),
            bounds_check_policies: BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ..Default::default()
        };
        let words =
            spv::write_vec(&module, &info, &options, None).expect("a valid module of known capabilities");
        let modes: Vec<_> = self
            .float_support
            .modes
            .iter()
            .copied()
            .filter(|(_, width)| *width == 32 || has_doubles)
            .collect();
        let spirv = keep_arithmetic(&words, &modes);
        let entry_point = PassthroughShaderEntryPoint { name: "main".into(), workgroup_size: (0, 0, 0) };
        let description = ShaderModuleDescriptorPassthrough {
            label: Some(key),
            entry_points: vec![entry_point].into(),
            spirv: Some(spirv.into()),
            ..Default::default()
        };
        // SAFETY: the module is valid, as the compiler made it; what is added are decorations and modes that the device offers.
        unsafe { self.device.create_shader_module_passthrough(description) }
    }

    /// A buffer for operators.
    pub(crate) fn buffer(&self, what: &'static str, bytes: u64) -> Result<Buffer, GpuError> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&BufferDescriptor {
            label: Some(what),
            size: bytes.max(16).next_multiple_of(16),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => Err(GpuError::OutOfMemory { what, bytes }),
        }
    }

    /// Binds an operator's own buffer.
    pub(crate) fn bind_operand(&self, access: Access, buffer: &Buffer) -> BindGroup {
        bind(&self.device, &self.operand_layouts[access as usize], &[buffer])
    }

    /// Binds the buffers that all operators share: floats, words, constants.
    pub(crate) fn bind_shared(&self, buffers: [&Buffer; 3]) -> BindGroup {
        bind(&self.device, &self.shared_layout, &buffers)
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.name)
    }
}

fn layout(device: &Device, are_read: &[bool]) -> BindGroupLayout {
    let entries: Vec<_> = (0..)
        .zip(are_read)
        .map(|(binding, &read_only)| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty: BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn bind(device: &Device, layout: &BindGroupLayout, buffers: &[&Buffer]) -> BindGroup {
    let entries: Vec<_> = (0..)
        .zip(buffers)
        .map(|(binding, buffer)| BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries })
}
