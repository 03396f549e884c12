//! Traces to a collector of OpenTelemetry, with the feature `otel`. Where it is and all else is said by OpenTelemetry's own
//! variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`; without that one there are no traces.

/// Where traces go.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Whether traces are asked for.
fn are_asked_for() -> bool {
    ENDPOINTS.iter().any(|name| std::env::var(name).is_ok_and(|endpoint| !endpoint.is_empty()))
}

/// Sends traces for as long as it lives.
#[cfg(feature = "otel")]
pub(crate) struct Traces(Option<opentelemetry_sdk::trace::SdkTracerProvider>);

#[cfg(feature = "otel")]
impl Traces {
    /// Begins, if traces are asked for.
    pub(crate) fn start() -> anyhow::Result<Self> {
        use anyhow::Context as _;
        use opentelemetry::KeyValue;
        use opentelemetry_sdk::Resource;
        use opentelemetry_sdk::propagation::TraceContextPropagator;
        use opentelemetry_sdk::trace::SdkTracerProvider;

        if !are_asked_for() {
            return Ok(Self(None));
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build();
        let exporter = exporter.with_context(|| format!("traces: {}", ENDPOINTS.join(" or ")))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut resource = Resource::builder().with_attribute(version);
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("lookahead");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        opentelemetry::global::set_tracer_provider(provider.clone());
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Self(Some(provider)))
    }
}

#[cfg(feature = "otel")]
impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(opentelemetry_sdk::trace::SdkTracerProvider::shutdown) {
            tracing::warn!("the last traces are not sent: {error}");
        }
    }
}

/// Would send traces.
#[cfg(not(feature = "otel"))]
pub(crate) struct Traces;

#[cfg(not(feature = "otel"))]
impl Traces {
    /// Says that there are none, if they are asked for.
    #[allow(clippy::unnecessary_wraps)] // as with the feature
    pub(crate) fn start() -> anyhow::Result<Self> {
        if are_asked_for() {
            tracing::warn!(
                "{} is set, but this program was built without traces: build it with --features otel",
                ENDPOINTS[0]
            );
        }
        Ok(Self)
    }
}
