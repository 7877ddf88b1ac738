"""The engine, provider and precision names used in settings."""

from __future__ import annotations

from typing import Literal

EngineName = Literal["auto", "onnxruntime", "tensorrt", "torch"]
Provider = Literal["auto", "cpu", "openvino", "cuda", "tensorrt", "rocm"]
"""What ONNX Runtime computes on."""
Precision = Literal["fp32", "fp16", "bf16", "int8"]
