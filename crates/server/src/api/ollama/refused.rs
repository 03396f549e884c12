//! What Ollama does and this server does not.

use axum::extract::Request;

use crate::error::ApiError;

/// `/api/embed` and `/api/embeddings`: the models have no pooling layer.
pub(in crate::api) async fn embed() -> ApiError {
    let message = "the models that are served generate text and make no embeddings: they have no pooling layer. Use a \
                   model that was trained for them";
    ApiError::not_implemented("embeddings_not_supported", message.to_owned())
}

/// `/api/pull` and all else that would change which models there are: that is up to whoever starts the server.
pub(in crate::api) async fn manage(request: Request) -> ApiError {
    let path = request.uri().path();
    let message = format!(
        "{path} is not supported: which models are served is said when the server is started (`lookahead pull` gets a \
         model, `lookahead serve --model NAME` serves it); /api/tags lists them"
    );
    ApiError::not_implemented("models_are_fixed", message)
}
