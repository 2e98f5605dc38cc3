"""Plain transformers that can be packed; sizes and FLOPs; Hugging Face in and out."""
