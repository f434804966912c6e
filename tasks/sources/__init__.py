"""Where files come from: URLs, buckets, uploads, the Hugging Face Hub."""
