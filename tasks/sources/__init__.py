"""Sources of files: URLs, buckets, uploads, the Hugging Face Hub."""
