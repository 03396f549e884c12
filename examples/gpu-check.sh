#!/usr/bin/env bash
# Tries this machine's GPU: how it computes, whether logits are the CPU's, and how fast it is. Needs a Rust toolchain and
# a driver for Vulkan or Metal. Run from the project's root; an argument names another GPU, as `--device` does.
set -euo pipefail
device=${1:-gpu}
cargo build --release --locked --features gpu
lookahead=target/release/lookahead

echo "== devices"
"$lookahead" devices
echo "== operators, bit for bit beside the CPU"
cargo test --release -p lookahead-gpu --features gpu --locked
for model in smollm2-135m qwen2.5-1.5b; do
    echo "== $model: tokens and logits against the CPU's"
    "$lookahead" verify --model "$model" --device "$device" --prompts examples/prompts.jsonl --limit 4 --max-tokens 32 --adversarial
    echo "== $model: what a pass costs"
    "$lookahead" calibrate --model "$model" --device "$device"
    for decoding in plain lookahead; do
        echo "== $model: $decoding decoding"
        "$lookahead" generate --model "$model" --device "$device" --decoding "$decoding" --max-tokens 256 \
            --prompt "Write a Python class for a stack, with docstrings and tests." > /dev/null
    done
done
